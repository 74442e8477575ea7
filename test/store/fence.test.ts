import type pg from 'pg'
import { describe, expect } from 'vitest'
import { announcedBackend } from '../../src/db/beside-pool.ts'
import {
  beat,
  type Seen,
  seeDispatchers,
  signOff,
  signOffSilent,
  signOn,
  takeSessionLock,
} from '../../src/store/dispatchers.ts'
import {
  giveBackOperations,
  noteProgress,
  releaseLostOperations,
  unheardClaims,
} from '../../src/store/release.ts'
import { announcement, completed, HandDriven, retryIn } from '../support/hand-driven.ts'
import { asLine, insertRow, readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { damage } from '../support/served-lines.ts'

const thread = { thread_id: 't' }

/** What others see of a dispatcher now. */
async function see(pool: pg.Pool, id: string): Promise<Seen> {
  const { dispatchers } = await seeDispatchers(pool)
  return dispatchers.find((dispatcher) => dispatcher.id === id) as Seen
}

describe('a settle', () => {
  test('with an old attempt changes nothing', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    const first = await d.claimOnly()
    await d.settle(first, retryIn(0))
    const second = await d.claimOnly()
    const late = await d.settle(first)
    expect(late.late).toBe(1)
    expect(await readRow(pool, id)).toMatchObject({ status: 'processing', attempts: 2 })
    expect((await d.settle(second)).late).toBe(0)
  })

  test('by another dispatcher changes nothing', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected(), 'd1')
    const d2 = await HandDriven.signOn(await connected(), 'd2')
    const { id } = await insertRow(pool, thread)
    const claimed = await d1.claimOnly()
    expect((await d2.settle(claimed)).late).toBe(1)
    expect(await readRow(pool, id)).toMatchObject({ status: 'processing', claimed_by: 'd1' })
  })

  test('after the claim was released changes nothing, also not what the next one does', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected(), 'd1')
    const d2 = await HandDriven.signOn(await connected(), 'd2')
    const { id } = await insertRow(pool, thread)
    const lost = await d1.claimOnly()
    await signOff(pool, 'd1')
    expect(await releaseLostOperations(pool, 'd2')).toEqual([id])
    const taken = await d2.claimOnly()
    expect((await d1.settle(lost)).late).toBe(1)
    expect((await d2.settle(taken)).late).toBe(0)
    expect(await readRow(pool, id)).toMatchObject({ status: 'completed', attempts: 2, turn: 1 })
  })

  test('that is late settles the others of its round, and says how many were late', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const rows = [
      await insertRow(pool, { thread_id: 'a' }),
      await insertRow(pool, { thread_id: 'b' }),
    ]
    const claimed = await d.claim()
    await giveBackOperations(
      pool,
      d.id,
      claimed.filter((c) => c.thread_id === 'a'),
    )
    expect((await d.settle(claimed)).late).toBe(1)
    expect((await readRow(pool, Number(rows[0]?.id))).status).toBe('pending')
    expect((await readRow(pool, Number(rows[1]?.id))).status).toBe('completed')
  })

  test('whose answer was lost can be sent again', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, thread)
    const next = await insertRow(pool, thread)
    const claimed = await d.claimOnly()
    await d.settle(claimed)
    const again = await d.settle(claimed, completed, { free: 1 })
    expect(again.late).toBe(1)
    expect(again.claimed).toMatchObject([{ id: next.id }])
  })
})

describe('what is released', () => {
  test('is what a dispatcher held that signed off', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    await d.claimOnly()
    expect(await releaseLostOperations(pool, 'd2')).toEqual([])
    await signOff(pool, d.id)
    expect(await releaseLostOperations(pool, 'd2')).toEqual([id])
  })

  test('keeps its intent and progress, and stays first in line', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected(), 'd1')
    const d2 = await HandDriven.signOn(await connected(), 'd2')
    const writer = await connected()
    await writer.query('begin')
    await insertRow(writer, thread) // an earlier place
    const { id } = await insertRow(pool, thread)
    const claimed = await d1.claimOnly()
    await writer.query('commit')
    const intent = { call: 'create_run', after: null, timeout_ms: 1_000, at: 'now' }
    await noteProgress(pool, 'd1', claimed, intent, { run_id: 'run_1' })
    await signOff(pool, 'd1')
    expect(await releaseLostOperations(pool, 'd2')).toEqual([id])
    expect(await d2.claimOnly()).toMatchObject({
      id,
      turn: 1,
      attempts: 2,
      intent,
      progress: { run_id: 'run_1' },
    })
  })

  test('is not what somebody holds in a transaction; that comes later', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const user = await connected()
    const { id } = await insertRow(pool, thread)
    const other = await insertRow(pool, { thread_id: 'other' })
    await d.claim()
    await signOff(pool, d.id)
    await user.query('begin')
    await user.query('select 1 from thread_operations where id = $1 for update', [id])
    expect(await releaseLostOperations(pool, 'd2')).toEqual([other.id])
    await user.query('rollback')
    expect(await releaseLostOperations(pool, 'd2')).toEqual([id])
  })
})

test('what a dispatcher holds without knowing is what the database shows but for what it knows, and what is noted as over', async ({
  pool,
  url,
  connected,
}) => {
  const d1 = await HandDriven.signOn(await connected(), 'd1')
  const d2 = await HandDriven.signOn(await connected(), 'd2')
  const [known, unknown, noted] = [
    await insertRow(pool, { thread_id: 'known' }),
    await insertRow(pool, { thread_id: 'unknown' }),
    await insertRow(pool, { thread_id: 'noted' }),
  ]
  await d1.claim()
  await insertRow(pool, { thread_id: 'of another' })
  await d2.claim()
  await damage(
    url,
    `insert into unsettled_outcomes (operation_id, attempts, claimed_by, outcome)
     values (${noted.id}, 1, 'd1', '{"attempts": 1, "status": "completed"}')`,
  )
  expect(await unheardClaims(pool, 'd1', [known.id])).toEqual([{ id: unknown.id, attempts: 1 }])
  expect(await unheardClaims(pool, 'd1', [known.id, unknown.id])).toEqual([])
})

describe('what is given back', () => {
  test('keeps the first place, whoever commits an earlier one now', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected())
    const writer = await connected()
    await writer.query('begin')
    await insertRow(writer, thread)
    const { id } = await insertRow(pool, thread)
    const claimed = await d.claimOnly()
    await writer.query('commit')
    expect(await giveBackOperations(pool, d.id, [claimed])).toEqual([id])
    const again = await d.claimOnly()
    expect(again).toMatchObject({ id, turn: 1, failures: 0 })
    expect(again.attempts).toBeGreaterThan(claimed.attempts)
  })

  test('is only what is held, in this attempt, by who gives it back', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected(), 'd1')
    await insertRow(pool, thread)
    const first = await d1.claimOnly()
    expect(await giveBackOperations(pool, 'd2', [first])).toEqual([])
    await d1.settle(first, retryIn(0))
    expect(await giveBackOperations(pool, 'd1', [first])).toEqual([])
    await d1.claimOnly()
    expect(await giveBackOperations(pool, 'd1', [first])).toEqual([])
  })
})

describe('progress', () => {
  test('is merged into what is known while the claim is still held', async ({
    pool,
    connected,
  }) => {
    const d = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, thread)
    const claimed = await d.claimOnly()
    expect(await noteProgress(pool, d.id, claimed, null, { message_id: 'msg_1' })).toBe(true)
    expect(await noteProgress(pool, d.id, claimed, null, { run_id: 'run_1' })).toBe(true)
    expect((await readRow(pool, id)).progress).toEqual({ message_id: 'msg_1', run_id: 'run_1' })
  })

  test.for(['was released', 'is held by somebody else', 'is settled', 'is a later attempt'])(
    'is refused when the claim %s',
    async (loss, { pool, connected }) => {
      const d1 = await HandDriven.signOn(await connected(), 'd1')
      const d2 = await HandDriven.signOn(await connected(), 'd2')
      const { id } = await insertRow(pool, thread)
      const claimed = await d1.claimOnly()
      if (loss === 'is settled') await d1.settle(claimed)
      else await giveBackOperations(pool, 'd1', [claimed])
      if (loss === 'is held by somebody else') await d2.claimOnly()
      if (loss === 'is a later attempt') await d1.claimOnly()
      expect(await noteProgress(pool, 'd1', claimed, null, { run_id: 'run_1' })).toBe(false)
      expect((await readRow(pool, id)).progress).toBeNull()
    },
  )
})

describe('a place on the list of dispatchers', () => {
  test('is shown to be alive by beats, each of which others can tell from the last', async ({
    pool,
    connected,
  }) => {
    const client = await connected()
    const { id } = await HandDriven.signOn(client)
    const before = await see(pool, id)
    expect(before).toMatchObject({ id, direct: false, grace_ms: 1_400, lease_ms: 14_000 })
    const { outcome, backend } = await beat(client, id, announcedBackend(client))
    expect([outcome, backend]).toEqual(['beaten', announcedBackend(client)])
    const after = await see(pool, id)
    expect(after.direct).toBe(true)
    expect(after.beat).not.toBe(before.beat)
    expect((await beat(client, 'nobody', null)).outcome).toBe('gone')
  })

  test('is direct only while the backend that beats is the one that announced itself', async ({
    pool,
    connected,
  }) => {
    const client = await connected()
    const { id } = await HandDriven.signOn(client)
    for (const [backend, direct] of [
      [announcedBackend(client), true],
      [1, false],
      [null, false],
    ] as const) {
      await beat(client, id, backend)
      expect((await see(pool, id)).direct).toBe(direct)
    }
    expect(await takeSessionLock(client, id, 1)).toBeNull()
    expect(await takeSessionLock(client, id, null)).toBeNull()
  })

  test('cannot be renewed while somebody’s transaction holds it, and nobody waits', async ({
    pool,
    connected,
  }) => {
    const client = await connected()
    const { id } = await HandDriven.signOn(client)
    const user = await connected()
    await user.query('begin')
    await user.query('select from dispatchers for update')
    const before = await see(pool, id)
    expect((await beat(client, id, null)).outcome).toBe('held')
    expect(await see(pool, id)).toEqual(before)
    expect(await signOffSilent(pool, before, true)).toBe(false)
    await signOn(client, announcement('after'), id)
    await user.query('rollback')
    expect((await beat(client, id, null)).outcome).toBe('beaten')
  })

  test('passes to a new id in one step', async ({ pool, connected }) => {
    const d = await HandDriven.signOn(await connected(), 'before')
    await signOn(pool, announcement('after'), d.id)
    const { rows } = await pool.query('select id from dispatchers')
    expect(rows).toEqual([{ id: 'after' }])
  })
})

describe('somebody silent is signed off', () => {
  test('when the lease is over, whatever the lock says, unless it has beaten since', async ({
    pool,
    connected,
  }) => {
    const client = await connected()
    const { id } = await HandDriven.signOn(client)
    expect(await takeSessionLock(client, id, announcedBackend(client))).toBe(true)
    const watched = await see(pool, id)
    await beat(client, id, announcedBackend(client))
    expect(await signOffSilent(pool, watched, true)).toBe(false)
    expect(await signOffSilent(pool, await see(pool, id), true)).toBe(true)
    expect(await see(pool, id)).toBeUndefined()
    expect(await signOffSilent(pool, watched, true)).toBe(false)
  })

  test('within the lease only if it is direct and its session lock is free', async ({
    pool,
    connected,
  }) => {
    const client = await connected()
    const { id } = await HandDriven.signOn(client)
    const backend = announcedBackend(client)
    await takeSessionLock(client, id, backend)
    await beat(client, id, backend)
    expect(await signOffSilent(pool, await see(pool, id), false)).toBe(false)
    await client.query('select pg_advisory_unlock_all()')
    await beat(client, id, null)
    expect(await signOffSilent(pool, await see(pool, id), false)).toBe(false)
    await beat(client, id, backend)
    expect(await signOffSilent(pool, await see(pool, id), false)).toBe(true)
  })
})

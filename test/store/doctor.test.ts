import { describe, expect } from 'vitest'
import type { Outcome } from '../../src/model/outcome.ts'
import { defaultLimits, examine, invariants } from '../../src/store/doctor/examine.ts'
import { sweepLines } from '../../src/store/release.ts'
import { startLine, who } from '../operations/line.ts'
import { completed, HandDriven } from '../support/hand-driven.ts'
import { expectHealthy, findBroken } from '../support/healthy.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { damage, serveLines } from '../support/served-lines.ts'
import { waitFor } from '../support/wait-for.ts'
import { damages } from './damages.ts'

/** One look, at which everything momentary counts. */
const atOnce = { graceMs: 0, staleMs: 0 }

const namesOf = (broken: string[]) => [...new Set(broken.map((line) => line.split(':')[0]))]

describe('every invariant', () => {
  test('is broken by something in this test', () => {
    expect(damages.map(([name]) => name).sort()).toEqual(
      invariants(defaultLimits)
        .map(({ name }) => name)
        .sort(),
    )
  })

  for (const [name, ...statements] of damages) {
    for (const [i, statement] of statements.entries()) {
      const which = statements.length > 1 ? ` (${i + 1})` : ''
      test(`is found, and no other: ${name}${which}`, async ({ url, pool, connected }) => {
        await serveLines(pool, await connected())
        expect(await findBroken(pool, atOnce)).toEqual([])
        await damage(url, statement)
        expect(namesOf(await findBroken(pool, atOnce))).toEqual([name])
      })
    }
  }
})

describe('what is right', () => {
  test('is a deletion that goes before all who wait, while it waits and when it has passed the head', async ({
    pool,
    connected,
  }) => {
    const done: Outcome = { status: 'completed', result: { message_id: 'msg_1', deleted: [] } }
    const d = await HandDriven.signOn(await connected())
    await insertRow(pool, { thread_id: 't' })
    const served = await d.claimOnly()
    const { id } = await insertRow(pool, { thread_id: 't' })
    await d.settle(served, done)
    await waitFor(async () => {
      const { rows } = await pool.query(
        `select clock_timestamp() > head_since + interval '0.3 s' as was from thread_operations where id = $1`,
        [id],
      )
      return rows[0].was
    })
    await insertRow(pool, { thread_id: 't', operation: 'delete_thread', data: {} })
    // The mark of the head that was is taken off by the next claim.
    expect(namesOf(await findBroken(pool, atOnce))).toEqual(['only_the_first_is_marked'])
    await d.settle(await d.claimOnly(), done)
    expect(await findBroken(pool, atOnce)).toEqual([])
  })

  test('is found healthy after and while dispatchers serve both providers', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const threads = Array.from({ length: 8 }, (_, i) => `healthy:${i}`)
    const ids: number[] = []
    for (const [i, thread] of threads.entries()) {
      const provider = i % 2 === 0 ? 'responses' : 'assistants'
      ids.push(await line.insert(thread, 'create_thread', { provider }))
      ids.push(await line.insert(thread, 'add_message', { message: 'Hi' }))
      ids.push(await line.insert(thread, 'add_message_and_run', { message: 'Hello', ...who }))
      ids.push(await line.insert(thread, 'update_thread', { metadata: { a: 'b' } }))
      ids.push(await line.insert(thread, 'create_run', { assistant_id: 'asst_nobody' }))
    }
    await expectHealthy(pool, { graceMs: 500 })
    for (const id of ids) await line.end(id)
    await expectHealthy(pool, atOnce)
  })

  test('are the gaps that deleted operations leave', async ({ pool, connected }) => {
    await serveLines(pool, await connected())
    await pool.query(
      'delete from thread_operations where turn in (1, 3) and finished_at is not null',
    )
    await expectHealthy(pool, atOnce)
  })

  test('is a higher id with a lower turn, where the transactions overlapped', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    const slow = await connected()
    await slow.query('begin')
    const first = await insertRow(slow, { thread_id: 'overlap' })
    const second = await insertRow(pool, { thread_id: 'overlap' })
    const servedFirst = await dispatcher.claimOnly()
    await slow.query('commit')
    const { claimed } = await dispatcher.settle(servedFirst, completed, { free: 1 })
    expect([servedFirst, ...claimed].map(({ id }) => id)).toEqual([second.id, first.id])
    await dispatcher.settle(claimed)
    await expectHealthy(pool, { ...atOnce, without: ['results_are_there'] })
  })

  test('is a start that had looked at the line just before another became its head', async ({
    url,
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    const { id } = await insertRow(pool, { thread_id: 'overlap' })
    await insertRow(pool, { thread_id: 'overlap' })
    await damage(url, `update thread_operations set ready_at = null where id = ${id}`)
    await damage(
      url,
      `update thread_operations set place = -id, head_since = null where id <> ${id}`,
    )
    await sweepLines(pool, 'd', '', 10)
    const later = await dispatcher.claimOnly()
    expect(later.id).toBeGreaterThan(id)
    await damage(
      url,
      `update thread_operations o set head_since = l.started_at - interval '10 milliseconds', created_at = l.started_at - interval '1 hour'
         from thread_operations l where o.id = ${id} and l.id = ${later.id}`,
    )
    expect(await findBroken(pool, atOnce)).toEqual([])
  })

  test('is a line whose head is marked within the grace', async ({ url, pool }) => {
    await insertRow(pool, { thread_id: 'late' })
    await damage(url, `update thread_operations set ready_at = null`)
    let looks = 0
    pool.on('release', () => looks++)
    const findings = examine(pool, { ...defaultLimits, graceMs: 1_000 })
    await waitFor(() => looks >= invariants(defaultLimits).length)
    await sweepLines(pool, 'd', '', 10)
    expect((await findings).filter(({ broken }) => broken > 0)).toEqual([])
  })
})

test('one thread can be looked at alone', async ({ url, pool, connected }) => {
  await serveLines(pool, await connected())
  await damage(url, `update thread_operations set ready_at = null, provider = 'azure', place = 0`)
  await damage(
    url,
    `delete from dispatchers; delete from operation_events where to_status <> 'processing'`,
  )
  const ofAll = await findBroken(pool, atOnce)
  for (const thread of ['served', 'retried', 'waiting', 'withdrawn']) {
    const ofThread = ofAll.filter((line) => line.includes(` of ${thread}: `))
    expect(ofThread).not.toEqual([])
    expect(await findBroken(pool, { ...atOnce, threadId: thread })).toEqual(ofThread)
  }
})

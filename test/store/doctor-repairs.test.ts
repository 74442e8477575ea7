import type pg from 'pg'
import { describe, expect } from 'vitest'
import { defaultLimits, examine, invariants } from '../../src/store/doctor/examine.ts'
import { releaseClaims } from '../../src/store/doctor/repairs.ts'
import { HandDriven } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow } from '../support/line.ts'
import { hangs, test } from '../support/scripted.ts'
import { damage, serveLines } from '../support/served-lines.ts'
import { waitFor } from '../support/wait-for.ts'
import { damages, nth, turn } from './damages.ts'

/** One look, at which everything momentary counts. */
const atOnce = { graceMs: 0, staleMs: 0 }

const invariantOfClaims = 'claims_have_living_owners'

describe('a repair', () => {
  const rows = async (pool: pg.Pool) => {
    const { rows } = await pool.query(
      `select o.id, to_jsonb(o) - 'updated_at' - 'prev_status' as row from thread_operations o order by o.id`,
    )
    return new Map(rows.map(({ id, row }) => [id as number, JSON.stringify(row)]))
  }
  const idOf = async (pool: pg.Pool, which: string): Promise<number> =>
    (await pool.query(`select id from thread_operations where ${which}`)).rows[0].id

  /** What is repaired: by which words, and which rows it touches. */
  const repairs: Array<[invariant: string, done: string | RegExp, ...touched: string[]]> = [
    ['first_is_marked', 'marked 1 head', nth('waiting', 1)],
    ['only_the_first_is_marked', 'took 1 mark off', nth('waiting', 2)],
    [
      'provider_threads_have_a_generation',
      'wrote 1 into the inventory, with nothing said or used before',
    ],
    ['only_the_current_generation_is_open', 'ended 1 in the inventory'],
    ['sweeps_wait_for_their_own_operation', 'let go of 1'],
    [invariantOfClaims, /^gave back 1 claim: \d+$/, turn(5)],
    ['outcomes_are_settled', 'recorded 1 outcome', turn(5), nth('served', 6)],
    ['waiters_have_somebody_to_wait_for', 'removed 1 waiter'],
  ]

  test('exists for what can be repaired safely, and for nothing else', () => {
    const fixable = invariants(defaultLimits).filter(({ fix }) => fix !== undefined)
    expect(fixable.map(({ name }) => name)).toEqual(repairs.map(([name]) => name))
  })

  for (const [name, done, ...touched] of repairs) {
    test(`touches what it says and heals it: ${name}`, async ({ url, pool, connected }) => {
      await serveLines(pool, await connected())
      await damage(url, String(damages.find(([damaged]) => damaged === name)?.[1]))
      const expected = await Promise.all(touched.map((which) => idOf(pool, which)))
      const before = await rows(pool)
      const findings = await examine(pool, { ...defaultLimits, ...atOnce })
      const finding = findings.find(({ invariant }) => invariant.name === name)
      expect(await finding?.invariant.fix?.(pool, finding.offenders)).toMatch(done)
      const after = await rows(pool)
      expect([...after.keys()].filter((id) => after.get(id) !== before.get(id))).toEqual(expected)
      await expectHealthy(pool, atOnce)
    })
  }

  test('of a claim signs its owner off, once it was silent for its lease before our eyes', async ({
    pool,
    connected,
  }) => {
    const dead = await HandDriven.signOn(await connected(), 'dead', { leaseMs: 200 })
    const { id } = await insertRow(pool, { thread_id: 't' })
    await dead.claimOnly()
    const offenders = await waitFor(async () => {
      const findings = await examine(pool, { ...defaultLimits, ...atOnce })
      const finding = findings.find(({ invariant }) => invariant.name === invariantOfClaims)
      return finding?.broken === 1 && finding.offenders
    })
    expect(offenders).toEqual([
      { id, thread: 't', detail: expect.stringMatching(/^held by dead, silent for /) },
    ])
    expect(await releaseClaims(pool, offenders)).toBe(`gave back 1 claim: ${id}`)
    expect((await pool.query('select from dispatchers')).rowCount).toBe(0)
  })

  test('of a claim leaves its owner alone if that beats, whatever the clock says', async ({
    pool,
    start,
  }) => {
    const { id } = await insertRow(pool, { thread_id: 't' })
    const line = await start(hangs, { heartbeatMs: 50, shutdownMs: 0 })
    await waitFor(() => line.claims.length === 1)
    const offenders = [{ id, thread: 't', detail: 'held by one who seemed silent' }]
    expect(await releaseClaims(pool, offenders)).toBe('gave back 0 claims')
    expect(line.claims[0]?.signal.aborted).toBe(false)
  })

  test('leaves alone what somebody’s open transaction holds', async ({ url, pool, connected }) => {
    await serveLines(pool, await connected())
    await damage(url, `update thread_operations set ready_at = null where ${nth('waiting', 1)}`)
    const holder = await connected()
    await holder.query('begin')
    await holder.query(`select from thread_operations where ${nth('waiting', 1)} for update`)
    const findings = await examine(pool, { ...defaultLimits, ...atOnce })
    const finding = findings.find(({ broken }) => broken > 0)
    expect(await finding?.invariant.fix?.(pool, finding.offenders)).toBe('marked 0 heads')
  })
})

import { describe, expect } from 'vitest'
import { laneKey } from '../../src/model/lane.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { isCompleted, named, startKeysFleet, waitsFor } from './keys-fleet.ts'

const day = '3600000'

describe('a rate limit', () => {
  test('pauses its model for every dispatcher until Retry-After, and no other', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, {
      faults: [
        { name: 'rate_limit', on: 'responses.create', model: 'busy', retryAfter: 4, times: 1 },
      ],
    })
    await fleet.start('key')
    await fleet.start('key')
    await fleet.enqueue(['first'], 'busy')
    const lane = await fleet.lane('busy', 'resting')
    expect(lane).toMatchObject({
      key: laneKey('key'),
      reason: 'rate_limit_exceeded',
      strikes: 1,
    })

    const held = named('busy', 8)
    const others = named('idle', 8)
    await fleet.enqueue(held, 'busy')
    await fleet.enqueue(others, 'idle')
    await fleet.all(others, isCompleted, 'the other model is served')
    const name = `${laneKey('key')}/busy`
    const waiting = await fleet.all(held, waitsFor('lane_paused'), 'the others are turned back')
    for (const { error, ready_at } of waiting) {
      expect(error.lane).toBe(name)
      expect(ready_at >= lane.paused_until).toBe(true)
    }
    expect((await fleet.lane('busy', 'resting')).waiting).toBe(9)

    const served = await fleet.all(['first', ...held], isCompleted, 'all are served at last')
    expect(served.map(({ failures }) => failures)).toEqual(served.map(() => 0))
    const [refused, ...later] = fleet.arrivals.filter(({ model }) => model === 'busy')
    expect(refused?.at).toBeLessThan(lane.paused_until.getTime())
    expect(later).toHaveLength(9)
    for (const { at } of later) expect(at).toBeGreaterThanOrEqual(lane.paused_until.getTime())
    expect(await fleet.lane('busy', 'open')).toMatchObject({ strikes: 0, reason: null })

    const { rows: told } = await pool.query(
      `select code, detail, retry_at is not null as is_due from operation_events
        where code in ('lane_paused', 'rate_limit_exceeded') order by id`,
    )
    expect(told.filter(({ code }) => code === 'rate_limit_exceeded')).toEqual([
      {
        code: 'rate_limit_exceeded',
        detail: { provider_status: 429, request_id: expect.any(String), lane: name },
        is_due: true,
      },
    ])
    expect(told.filter(({ code }) => code === 'lane_paused')).toEqual(
      held.map(() => ({ code: 'lane_paused', detail: { lane: name }, is_due: true })),
    )
    await expectHealthy(pool)
  })

  test('of a call without a model pauses the key, and not the key of others', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, {
      faults: [{ name: 'rate_limit', on: 'conversations.create', key: 'mine', retryAfter: 60 }],
    })
    await fleet.start('mine')
    await fleet.enqueue(['first'], 'm')
    await fleet.lane('', 'resting')
    const threads = named('later', 5)
    await fleet.enqueue(threads, 'm')
    await fleet.start('other')
    const all = ['first', ...threads]
    await fleet.all(all, isCompleted, 'the dispatcher with the other key serves them at once')
    expect(fleet.emulator.requests({ key: 'mine' })).toHaveLength(1)
  })

  test('that nobody gives an end to lasts longer from time to time, and is forgotten by a success', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, {
      faults: [{ name: 'rate_limit', on: 'responses.create', code: 'slow_down', times: 2 }],
    })
    await fleet.start('key')
    await fleet.enqueue(['one'], 'm', { max_attempts: 1 })
    const once = await fleet.lane('m', 'resting')
    expect(once).toMatchObject({ reason: 'slow_down', strikes: 1 })
    const twice = await waitFor(async () => {
      const lane = await fleet.lane('m', 'resting')
      return lane.strikes === 2 && lane
    })
    const pause = (lane: { paused_at: Date; paused_until: Date }) =>
      lane.paused_until.getTime() - lane.paused_at.getTime()
    expect(pause(once)).toBeGreaterThanOrEqual(1_000)
    expect(pause(once)).toBeLessThanOrEqual(2_000)
    expect(pause(twice)).toBeGreaterThanOrEqual(2_000)
    expect(pause(twice)).toBeLessThanOrEqual(4_000)
    const [row] = await fleet.all(['one'], isCompleted, 'it is served at last')
    expect(row).toMatchObject({ attempts: 3, failures: 0 })
    expect((await fleet.lane('m', 'open')).strikes).toBe(0)
  })

  test('that a run finds out only when it is going on pauses its model too', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, {
      faults: [{ name: 'run_fails', code: 'rate_limit_exceeded', times: 1 }],
    })
    await fleet.start('key')
    await fleet.enqueue(['one'], 'm')
    const lane = await fleet.lane('m', 'resting')
    expect(lane.reason).toBe('rate_limit_exceeded')
    const [row] = await fleet.all(['one'], isCompleted, 'another run succeeds')
    expect(row.failures).toBe(0)
    expect(fleet.arrivals).toHaveLength(2)
    expect(fleet.arrivals[1]?.at).toBeGreaterThanOrEqual(lane.paused_until.getTime())
  })
})

describe.for([
  ['unauthorized', 'invalid_api_key'],
  ['forbidden', 'unsupported_country_region_territory'],
  ['insufficient_quota', 'insufficient_quota'],
] as const)('a key that is refused as %s', ([fault, code]) => {
  test('rests in the whole fleet, while others go on, until an operator resumes it', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, { faults: [{ name: fault, key: 'bad' }] })
    await fleet.start('bad')
    await fleet.enqueue(['first'], 'm')
    const lane = await fleet.lane('', 'resting')
    expect(lane).toMatchObject({ key: laneKey('bad'), reason: code })
    const sent = fleet.emulator.requests().length
    expect(sent).toBe(1)

    // One that comes later knows from the start.
    await fleet.start('bad')
    const held = named('held', 5)
    await fleet.enqueue(held, 'm')
    const stop = await fleet.start('good')
    const all = ['first', ...held]
    const rows = await fleet.all(all, isCompleted, 'the dispatcher with the good key serves them')
    expect(rows.map(({ failures }) => failures)).toEqual(all.map(() => 0))
    expect(fleet.emulator.requests({ key: 'bad' })).toHaveLength(sent)
    await stop()

    const more = named('more', 5)
    await fleet.enqueue(more, 'm')
    fleet.emulator.setFaults([])
    // By then it has looked for work a few times.
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       values ('elsewhere', 'create_thread', '{"provider": "assistants"}')`,
    )
    await fleet.all(['elsewhere'], isCompleted, 'the other provider is served with the same key')
    const { rows: untouched } = await pool.query(
      `select attempts, ready_at from thread_operations where thread_id like 'more:%'`,
    )
    expect(untouched).toEqual(more.map(() => ({ attempts: 0, ready_at: expect.any(Date) })))
    await pool.query(`select resume_lane('responses', $1)`, [laneKey('bad')])
    await fleet.all(more, isCompleted, 'they are served when the lane is resumed')
    expect(fleet.emulator.requests({ key: 'bad' }).length).toBeGreaterThan(sent)
    await expectHealthy(pool)
  })
})

describe('a key that rests', () => {
  test('is tried with one operation at a time, and goes on by itself when that succeeds', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, {
      faults: [{ name: 'insufficient_quota', on: 'conversations.create' }],
    })
    const probing = { laneProbeMs: '300' }
    await fleet.start('key', probing)
    await fleet.enqueue(['first'], 'm')
    await fleet.lane('', 'resting')
    await fleet.start('key', probing)
    await fleet.enqueue(named('held', 10), 'm')
    const probedAt = async () => (await fleet.lane('', 'resting')).probed_at?.getTime()
    const seen = new Set<number>()
    await waitFor(async () => {
      const at = await probedAt()
      if (at !== undefined) seen.add(at)
      return seen.size >= 3
    })
    // Each probe is one refused request of one of the two.
    const started = (await pool.query('select min(paused_at) as at from lane_states')).rows[0].at
    const requests = fleet.emulator.requests({ key: 'key' })
    const probes = requests.filter(({ at }) => at > started)
    expect(requests.length - probes.length).toBe(1)
    expect(probes.length).toBeLessThanOrEqual((Date.now() - started.getTime()) / 300)
    fleet.emulator.setFaults([])
    const rows = await fleet.all(['first', ...named('held', 10)], isCompleted, 'all are served')
    expect(rows.map(({ failures }) => failures)).toEqual(rows.map(() => 0))
    expect(await fleet.lane('', 'open')).toMatchObject({ reason: null, strikes: 0 })
  })

  test('does not keep the other provider of the same dispatcher waiting', async ({ url, pool }) => {
    const fleet = await startKeysFleet(url, pool, {
      faults: [{ name: 'unauthorized', on: 'conversations.create' }],
    })
    await fleet.start('key')
    await fleet.enqueue(['first'], 'm')
    await fleet.lane('', 'resting')
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       values ('other', 'create_thread', '{"provider": "assistants"}')`,
    )
    await fleet.all(['other'], isCompleted, 'the other provider is served')
    expect((await fleet.lane('', 'resting')).provider).toBe('responses')
  })

  test('lets nothing through that was next in a line which was being served', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, { latency: { thinkMs: 300 } })
    await fleet.start('key')
    await fleet.enqueue(['going on'], 'm')
    await waitFor(() => fleet.arrivals.length === 1)
    await fleet.enqueue(['going on'], 'm')
    fleet.emulator.setFaults([{ name: 'unauthorized', on: 'conversations.create' }])
    await fleet.enqueue(['refused'], 'm')
    await fleet.lane('', 'resting')
    const [, next] = await waitFor(async () => {
      const { rows } = await pool.query(
        `select * from thread_operations where thread_id = 'going on' order by id`,
      )
      return rows[0].status === 'completed' && rows[1].error?.code === 'lane_paused' && rows
    })
    expect(next).toMatchObject({ status: 'pending', failures: 0, intent: null })
    expect(fleet.arrivals).toHaveLength(1)
  })
})

describe('a maximum of runs', () => {
  const mostAtOnce = (fleet: Awaited<ReturnType<typeof startKeysFleet>>): number => {
    const runs = fleet.emulator.runs()
    return Math.max(
      ...runs.map(
        ({ startedAt }) =>
          runs.filter((run) => run.startedAt <= startedAt && (run.endedAt ?? startedAt) > startedAt)
            .length,
      ),
    )
  }

  test('of a key holds for all dispatchers together, and burns no attempt', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool, { latency: { thinkMs: 100 } })
    await fleet.start('key', { maxRuns: '3' })
    await fleet.start('key', { maxRuns: '3' })
    const threads = named('t', 15)
    await fleet.enqueue(threads.slice(0, 8), 'a', { max_attempts: 1 })
    await fleet.enqueue(threads.slice(8), 'b', { max_attempts: 1 })
    const rows = await fleet.all(threads, isCompleted, 'all are served')
    expect(rows.map(({ failures }) => failures)).toEqual(threads.map(() => 0))
    expect(rows.some(({ attempts }) => attempts > 1)).toBe(true)
    expect(mostAtOnce(fleet)).toBe(3)
    const { rows: full } = await pool.query(
      `select distinct detail from operation_events where code = 'lane_full'`,
    )
    expect(full).toEqual([{ detail: { lane: laneKey('key') } }])
    expect(await fleet.lane('', 'open')).toMatchObject({ runs: 0, max_runs: 3 })
    await expectHealthy(pool)
  })

  test('of a model leaves others alone, and the place of a dispatcher that went is kept for its run', async ({
    url,
    pool,
  }) => {
    const fleet = await startKeysFleet(url, pool)
    await pool.query(
      `insert into lanes (provider, key, model, max_runs) values ('responses', $1, 'few', 1)`,
      [laneKey('key')],
    )
    const stop = await fleet.start('key')
    fleet.emulator.setFaults([{ name: 'stuck_in_progress' }])
    await fleet.enqueue(['stuck'], 'few')
    expect(await fleet.lane('few', 'full')).toMatchObject({ runs: 1, max_runs: 1 })
    await fleet.all(['stuck'], ({ progress }) => progress?.run_id, 'the run is going on')
    await stop()
    expect(await fleet.lane('few', 'full')).toMatchObject({ runs: 1 })

    await fleet.start('key')
    await fleet.enqueue(['behind'], 'few')
    await fleet.all(['behind'], waitsFor('lane_full'), 'the second waits')
    expect(fleet.arrivals).toHaveLength(1)
    await fleet.enqueue(['free'], 'many')
    fleet.emulator.setFaults([])
    const rows = await fleet.all(['stuck', 'behind', 'free'], isCompleted, 'all are served')
    expect(rows.map(({ failures }) => failures)).toEqual([0, 0, 0])
    expect(fleet.arrivals).toHaveLength(3)
    expect((await fleet.lane('few', 'open')).runs).toBe(0)
    await expectHealthy(pool)
  })
})

test('the setting of a maximum is written down when a dispatcher starts', async ({ url, pool }) => {
  const fleet = await startKeysFleet(url, pool)
  await fleet.start('key', { maxRuns: '7', laneProbeMs: day })
  const { rows } = await pool.query('select provider, key, model, max_runs from lanes order by 1')
  const lane = { key: laneKey('key'), model: '', max_runs: 7 }
  expect(rows).toEqual([
    { provider: 'assistants', ...lane },
    { provider: 'responses', ...lane },
  ])
})

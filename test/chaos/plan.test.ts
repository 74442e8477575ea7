import { describe, expect, test } from 'vitest'
import { planOf } from '../../chaos/plan.ts'
import { short, standard } from '../../chaos/scale.ts'
import { faultNames } from '../../src/emulator/faults/knobs.ts'
import { startEmulator } from '../../src/emulator/index.ts'
import { busyStrategies } from '../../src/model/operation.ts'

const seconds = 600
const plan = planOf(2, seconds, standard(seconds))

test('the same seed gives the same plan, another one another', () => {
  expect(planOf(2, seconds, standard(seconds))).toEqual(plan)
  const other = planOf(3, seconds, standard(seconds))
  for (const part of ['threads', 'transactions', 'disturbances', 'weathers'] as const)
    expect(other[part]).not.toEqual(plan[part])
})

describe('within ten minutes', () => {
  test('everything is disturbed in every way', () => {
    const kinds = plan.disturbances.map((one) =>
      [one.what, 'mode' in one ? one.mode : 'of' in one ? one.of : ''].join(' ').trim(),
    )
    expect([...new Set(kinds)].sort()).toEqual([
      'cut sessions',
      'foreign run',
      'hold',
      'hold rows dispatchers',
      'hold rows operations',
      'hold rows thread',
      'kill',
      'restart database fast',
      'restart database immediate',
      'stop',
      'take connections',
      'terminate',
    ])
    const stops = plan.disturbances.flatMap((one) => (one.what === 'stop' ? [one.ms] : []))
    expect(Math.min(...stops)).toBeLessThan(14_000)
    expect(Math.max(...stops)).toBeGreaterThan(15_000)
  })

  test('every fault is tried that must cost nothing', () => {
    const tried = new Set(plan.weathers.flatMap(({ faults }) => faults.map(({ name }) => name)))
    const costly = ['assistants_sunset', 'reasoning_lost']
    expect([...tried].sort()).toEqual(faultNames.filter((name) => !costly.includes(name)).sort())
  })

  test('operations of every kind come to threads of both providers, one after the other', () => {
    const operations = plan.transactions.flatMap((transaction) => transaction.operations)
    expect(operations).toHaveLength(standard(seconds).operations)
    expect(new Set(operations.map(({ operation }) => operation)).size).toBe(11)
    const joins = new Set(
      operations.flatMap(({ joins }) => (joins === null ? [] : Object.values(joins).slice(0, 1))),
    )
    for (const strategy of busyStrategies) expect(joins).toContain(strategy)
    expect(operations.some(({ joins }) => joins && 'scheduledInMs' in joins)).toBe(true)
    expect(new Set(plan.threads.map(({ provider }) => provider)).size).toBe(2)
    const times = plan.transactions.map(({ atMs }) => atMs)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
  })

  test('outsiders come, but to conversations only with a message, and where operations bring one too', () => {
    const threadOf = new Map(plan.threads.map((thread) => [thread.id, thread]))
    const visits = plan.disturbances.filter((one) => one.what === 'foreign run')
    expect(visits.length).toBeGreaterThan(20)
    const visited = visits.filter(({ thread }) => threadOf.get(thread)?.provider === 'responses')
    expect(visited.every(({ speaks }) => speaks)).toBe(true)
    const bare = plan.transactions
      .flatMap(({ operations }) => operations)
      .filter(({ thread, operation }) => {
        const { provider, visited } = threadOf.get(thread) ?? {}
        return operation === 'create_run' && provider === 'responses' && visited
      })
    expect(bare).toEqual([])
  })

  test('a dispatcher is back before it is disturbed again', () => {
    for (let dispatcher = 0; dispatcher < standard(seconds).dispatchers; dispatcher++) {
      const own = plan.disturbances.flatMap((one) =>
        'dispatcher' in one && one.dispatcher === dispatcher ? [one] : [],
      )
      expect(own.length).toBeGreaterThan(5)
      for (const [i, one] of own.entries()) {
        const lasts = 'ms' in one ? one.ms : 'downMs' in one ? one.downMs : 0
        expect(own[i + 1]?.atMs ?? Number.POSITIVE_INFINITY).toBeGreaterThan(one.atMs + lasts)
      }
    }
  })
})

test.for([standard(60), short(60)])(
  'the emulator takes every weather (pace $pace)',
  async (scale) => {
    const emulator = await startEmulator()
    try {
      const { weathers } = planOf(3, 60, scale)
      for (const { faults } of weathers) expect(() => emulator.setFaults(faults)).not.toThrow()
    } finally {
      await emulator.close()
    }
  },
)

import { describe, expect, test } from 'vitest'
import type { Seen } from '../../src/store/dispatchers.ts'
import { Watch } from '../../src/store/watch.ts'

const seen = (id: string, beat: number, direct = true): Seen => ({
  id,
  beat: String(beat),
  direct,
  grace_ms: 1_000,
  lease_ms: 10_000,
})

/** Looks every 100 ms from `from` to `to`, and always sees the same. */
function look(watch: Watch, dispatchers: Seen[], from: number, to: number, serverStart = 's1') {
  for (let now = from; now <= to; now += 100) watch.saw({ serverStart, dispatchers }, now)
}

const idsOf = (watch: Watch, now: number) =>
  watch.silent(now).map(({ dispatcher, leaseIsOver }) => [dispatcher.id, leaseIsOver])

describe('somebody whose beat does not change', () => {
  test('is silent after its grace where it is direct, after its lease in any case', () => {
    const watch = new Watch(1_000)
    const both = [seen('direct', 1), seen('pooled', 1, false)]
    look(watch, both, 0, 900)
    expect(idsOf(watch, 999)).toEqual([])
    expect(idsOf(watch, 1_000)).toEqual([['direct', false]])
    look(watch, both, 1_000, 9_900)
    expect(idsOf(watch, 9_999)).toEqual([['direct', false]])
    expect(idsOf(watch, 10_000)).toEqual([
      ['direct', true],
      ['pooled', true],
    ])
  })

  test('is not, from the moment at which it changes, also to an earlier one', () => {
    const watch = new Watch(1_000)
    look(watch, [seen('a', 50)], 0, 1_000)
    expect(idsOf(watch, 1_000)).toEqual([['a', false]])
    look(watch, [seen('a', 20)], 1_100, 2_000)
    expect(idsOf(watch, 2_099)).toEqual([])
    expect(idsOf(watch, 2_100)).toEqual([['a', false]])
  })

  test('is judged by what it announced itself, not by what others did', () => {
    const watch = new Watch(1_000)
    look(watch, [{ ...seen('patient', 1), grace_ms: 5_000 }, seen('quick', 1)], 0, 1_000)
    expect(idsOf(watch, 1_000)).toEqual([['quick', false]])
  })

  test('and signs off is forgotten', () => {
    const watch = new Watch(1_000)
    look(watch, [seen('a', 1)], 0, 1_000)
    look(watch, [], 1_100, 1_100)
    expect(idsOf(watch, 1_100)).toEqual([])
  })
})

describe('the watch begins anew', () => {
  test('when the watcher could not look for longer than its gap: the others may not have beaten for the same reason', () => {
    const watch = new Watch(1_000)
    look(watch, [seen('a', 1)], 0, 900)
    expect(idsOf(watch, 5_000), 'before it has looked again').toEqual([])
    look(watch, [seen('a', 1)], 5_000, 5_900)
    expect(idsOf(watch, 5_999)).toEqual([])
    expect(idsOf(watch, 6_000)).toEqual([['a', false]])
  })

  test('when the server was started anew: its start has freed every session lock', () => {
    const watch = new Watch(1_000)
    look(watch, [seen('a', 1)], 0, 900, 's1')
    look(watch, [seen('a', 1)], 1_000, 1_900, 's2')
    expect(idsOf(watch, 1_999)).toEqual([])
    expect(idsOf(watch, 2_000)).toEqual([['a', false]])
  })
})

test('the next moment to act is the end of a grace or a lease that is still ahead', () => {
  const watch = new Watch(1_000)
  expect(watch.untilNext(0)).toBeNull()
  look(watch, [seen('direct', 1), seen('pooled', 1, false)], 0, 0)
  expect(watch.untilNext(300)).toBe(700)
  expect(watch.untilNext(1_000)).toBe(9_000)
  expect(watch.untilNext(10_000)).toBeNull()
})

import { describe, expect, test } from 'vitest'
import { EmptiedLines } from '../../src/dispatcher/emptied-lines.ts'
import type { RoundResult } from '../../src/store/claim.ts'

/** A round that saw the transactions from `oldestXid` to below `nextXid` open. */
const round = (oldestXid: bigint, nextXid: bigint, emptied: string[] = []): RoundResult => ({
  late: 0,
  emptied,
  oldestXid,
  nextXid,
  claimed: [],
  fullHouse: false,
  priorities: null,
  floors: null,
})

const threads = (lines: EmptiedLines) => lines.next().map(({ thread }) => thread)

describe('an emptied line', () => {
  test('is looked at once more when nobody else is there, and then forgotten', () => {
    const lines = new EmptiedLines()
    lines.after([], ['a', 'busy'], round(10n, 10n, ['a']))
    expect(threads(lines)).toEqual(['a'])
    lines.after(lines.next(), [], round(12n, 12n, ['a']))
    expect(threads(lines)).toEqual([])
  })

  test('is looked at until all that were open at the first look are over, and no longer', () => {
    const lines = new EmptiedLines()
    lines.after([], ['a'], round(5n, 10n, ['a']))
    lines.after(lines.next(), [], round(5n, 12n, ['a']))
    lines.after(lines.next(), [], round(11n, 20n, ['a']))
    expect(threads(lines)).toEqual(['a'])
    lines.after(lines.next(), [], round(12n, 30n, ['a']))
    expect(threads(lines)).toEqual([])
  })

  test('that is emptied again beside a look is still to be looked at', () => {
    const lines = new EmptiedLines()
    lines.after([], ['a'], round(5n, 10n, ['a']))
    const looked = lines.next()
    lines.after([], ['a'], round(5n, 20n, ['a'])) // a round beside, which committed after that look
    lines.after(looked, [], round(11n, 11n, ['a']))
    expect(threads(lines)).toEqual(['a'])
  })

  test('does not keep others from their turn', () => {
    const lines = new EmptiedLines()
    const many = Array.from({ length: 300 }, (_, i) => `t${i}`)
    lines.after([], many, round(5n, 10n, many))
    const first = threads(lines)
    lines.after(lines.next(), [], round(5n, 10n, many))
    expect(threads(lines).slice(0, 100)).toEqual(many.filter((thread) => !first.includes(thread)))
  })
})

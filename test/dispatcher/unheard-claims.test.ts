import { expect, test } from 'vitest'
import { UnheardClaims } from '../../src/dispatcher/unheard-claims.ts'

const [one, two] = [
  { id: 1, attempts: 1 },
  { id: 2, attempts: 3 },
]

test('a claim that nobody knows of is lost when no round is under way that may tell of it', () => {
  const unheard = new UnheardClaims()
  expect(unheard.lost([])).toEqual([])
  unheard.saw([one, two])
  expect(unheard.lost([])).toEqual([one, two])
  expect(unheard.lost([one.id])).toEqual([two])
})

test('it is not lost while a round is under way that had begun when it was seen', () => {
  const unheard = new UnheardClaims()
  const [first, second] = [unheard.begin(), unheard.begin()]
  unheard.saw([one])
  first()
  expect(unheard.lost([])).toEqual([])
  second()
  expect(unheard.lost([one.id]), 'the answer told of it').toEqual([])
  expect(unheard.lost([])).toEqual([one])
})

test('rounds that begin later do not matter, however many are always under way', () => {
  const unheard = new UnheardClaims()
  const first = unheard.begin()
  unheard.saw([one])
  unheard.begin()
  first()
  expect(unheard.lost([])).toEqual([one])
})

test('what is no longer seen is not lost', () => {
  const unheard = new UnheardClaims()
  unheard.saw([one])
  unheard.saw([])
  expect(unheard.lost([])).toEqual([])
})

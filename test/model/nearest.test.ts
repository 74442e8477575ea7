import { expect, test } from 'vitest'
import { nearest } from '../../src/model/nearest.ts'

const kinds = ['create_thread', 'add_message', 'create_run']

test.for([
  ['add_mesage', 'add_message'],
  ['createrun', 'create_run'],
  ['thread', 'create_thread'],
] as const)('%s was probably meant to be %s', ([word, meant]) => {
  expect(nearest(word, kinds)).toBe(meant)
})

test('nothing is near when there are no candidates', () => {
  expect(nearest('anything', [])).toBeUndefined()
})

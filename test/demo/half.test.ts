import { expect, test } from 'vitest'
import { isInOrder, messageText } from '../../src/demo/half.ts'
import type { HistoryEntry } from '../../src/emulator/index.ts'

const size = { workers: 2, iterations: 2 }
const entry = (role: string, text: string): HistoryEntry => ({
  id: 'msg_1',
  role,
  text,
  metadata: {},
  runId: null,
})
/** `1.2` stands for the second message of the first worker, `a` for an answer. */
const history = (shape: string) =>
  shape.split(' ').map((word) => {
    const [worker = 0, iteration = 0] = word.split('.').map(Number)
    return word === 'a' ? entry('assistant', '…') : entry('user', messageText(worker, iteration))
  })

test('workers may alternate as they like', () => {
  expect(isInOrder(history('2.1 a 1.1 a 1.2 a 2.2 a'), size)).toBe(true)
})

test.each([
  ['a message is missing', '1.1 a 1.2 a 2.1 a'],
  ['a message came twice', '1.1 a 1.2 a 2.1 a 2.1 a'],
  ['a message came before an earlier one of its worker', '1.2 a 1.1 a 2.1 a 2.2 a'],
  ['a message came before the last one was answered', '1.1 2.1 a a 1.2 a 2.2 a'],
  ['a message was never answered', '1.1 a 1.2 a 2.1 a 2.2'],
])('it is no order when %s', (_what, shape) => {
  expect(isInOrder(history(shape), size)).toBe(false)
})

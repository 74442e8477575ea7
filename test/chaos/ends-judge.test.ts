import { expect, test } from 'vitest'
import { unexplainedEnds } from '../../chaos/ends-judge.ts'
import type { Judged } from '../../chaos/history.ts'

const judged = (fields: Partial<Judged>) =>
  ({ id: 1, thread_id: 't', error: null, result: null, target_id: null, ...fields }) as Judged

const target = judged({ id: 1, operation: 'create_run', status: 'completed' })

test('a cancel_run that its inserter withdrew owes no outcome', () => {
  const withdrawn = judged({ id: 2, operation: 'cancel_run', status: 'cancelled', target_id: 1 })
  expect(unexplainedEnds([target, withdrawn])).toEqual([])
})

test('a cancel_run that says otherwise than its target is an offender', () => {
  const result = { outcome: 'cancelled' } as Judged['result']
  const wrong = judged({
    id: 2,
    operation: 'cancel_run',
    status: 'completed',
    target_id: 1,
    result,
  })
  expect(unexplainedEnds([target, wrong])).toMatchObject([{ offence: 'end', operations: [2] }])
})

test('an operation that is cancelled in the name of another thread is an offender', () => {
  const foreign = judged({
    id: 3,
    thread_id: 'elsewhere',
    operation: 'cancel_run',
    status: 'completed',
  })
  const error = { code: 'cancelled', message: '', operation_id: 3 }
  const wrong = judged({ id: 1, operation: 'create_run', status: 'cancelled', error })
  expect(
    unexplainedEnds([wrong, { ...foreign, result: { outcome: 'nothing_to_do' } }]),
  ).toMatchObject([{ offence: 'end', operations: [1] }])
})

import { expect } from 'vitest'
import type { Claim } from '../../src/dispatcher/dispatcher.ts'
import {
  Inturn,
  OperationCancelledError,
  OperationFailedError,
  ResultTimeoutError,
} from '../../src/index.ts'
import { test as base } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf, message, waiterRows } from './rows.ts'
import { serve } from './serving.ts'

const test = base.extend('inturn', { scope: 'file' }, async ({ url }, { onCleanup }) => {
  const inturn = new Inturn({ databaseUrl: url })
  onCleanup(() => inturn.close())
  return inturn
})

test('the result is what the operation came to, now and later', async ({ inturn, pool, url }) => {
  await using _line = await serve(pool, url)
  const handle = await inturn.enqueue(message('completed', 'Hi'))
  const result = { text: 'You said: Hi', message_id: `msg_${handle.id}` }
  expect(await handle.result()).toEqual(result)
  expect(await handle.result()).toEqual(result)
  expect(await handle.status()).toBe('completed')
  const kept = await inturn.operation(handle.id)
  expect(kept).toMatchObject({ threadId: 'completed', operation: 'add_message' })
  expect(await kept.result()).toEqual(result)
})

test('a failed operation throws its error', async ({ inturn, pool, url }) => {
  await using _line = await serve(pool, url)
  const handle = await inturn.enqueue(message('failed', 'fail'))
  const error = await errorOf(handle.result())
  expect(error).toBeInstanceOf(OperationFailedError)
  expect(error).toMatchObject({
    code: 'quota',
    message: `Operation ${handle.id} failed: No money.`,
    operationId: handle.id,
    providerStatus: 429,
    requestId: 'req_1',
    result: null,
  })
})

test('a cancelled run throws with what is known of it', async ({ inturn, pool, url }) => {
  await using _line = await serve(pool, url)
  const handle = await inturn.enqueue(message('run', 'cancel the run'))
  const error = await errorOf(handle.result())
  expect(error).toBeInstanceOf(OperationCancelledError)
  expect(error).toMatchObject({ code: 'run_cancelled', result: { text: 'half an ans' } })
})

test('a pending operation can be cancelled, which whoever waits is told', async ({ inturn }) => {
  const handle = await inturn.enqueue(message('cancel', 'Hi'))
  const waiting = errorOf(handle.result())
  await handle.cancel()
  const error = await waiting
  expect(error).toBeInstanceOf(OperationCancelledError)
  expect(error.code).toBe('operation_cancelled')
  await handle.cancel()
  expect(await handle.status()).toBe('cancelled')
})

test('what a dispatcher holds is cancelled by a cancel_run of its own, and tells how it ended', async ({
  inturn,
  pool,
  url,
}) => {
  const started = Promise.withResolvers<Claim>()
  const finish = Promise.withResolvers<void>()
  await using _line = await serve(pool, url, (claim) => {
    started.resolve(claim)
    return finish.promise
  })
  const handle = await inturn.enqueue(message('held', 'Hi'))
  const claim = await started.promise
  const late = await errorOf(handle.result({ timeoutMs: 20 }))
  expect(late.message).toMatch(/it is processing since .* by dispatcher /)
  await handle.cancel()
  await waitFor(() => claim.cancelWanted.aborted, { message: 'the handler is told' })
  const [asked] = await inturn.thread('held').operations()
  expect(asked).toMatchObject({ operation: 'cancel_run', data: { operation_id: handle.id } })
  expect(claim.cancelWanted.reason).toMatchObject({ operation_id: asked?.id })
  finish.resolve()
  await handle.result() // it was faster
  await handle.cancel()
  expect(await handle.status()).toBe('completed')
  const cancellation = await inturn.operation(asked?.id as number)
  expect(await cancellation.result()).toEqual({ outcome: 'completed', operation_id: handle.id })
})

test('a thread is told to cancel whatever is active, or one operation of it', async ({
  inturn,
  pool,
  url,
}) => {
  const thread = inturn.thread('stopped')
  const [first, second] = await inturn.enqueue([message('stopped', 'a'), message('stopped', 'b')])
  const one = await thread.cancel({ operationId: second.id, reason: 'wrong one' })
  const none = await thread.cancel()
  expect(await errorOf(thread.cancel({ operationId: 999_999 }))).toMatchObject({
    code: 'target_is_of_the_thread',
  })
  const ended = errorOf(second.result())
  // Nobody comes to the second before its cancellation was heard.
  const heard = Promise.withResolvers<void>()
  await using _line = await serve(pool, url, () => heard.promise)
  expect(await one.result()).toEqual({ outcome: 'cancelled', operation_id: second.id })
  expect((await none.result()).outcome).toBe('nothing_to_do')
  heard.resolve()
  expect(await ended).toMatchObject({
    code: 'cancelled',
    message: `Operation ${second.id} was cancelled: Cancelled by operation ${one.id}: wrong one`,
  })
  await first.result()
})

test('a timeout says where the operation stands, and leaves it there', async ({ inturn, pool }) => {
  const [first, second] = await inturn.enqueue([message('slow', 'a'), message('slow', 'b')])
  const error = await errorOf(second.result({ timeoutMs: 30 }))
  expect(error).toBeInstanceOf(ResultTimeoutError)
  expect(error).toMatchObject({ code: 'result_timeout', operationId: second.id })
  expect(error.message).toBe(
    `Operation ${second.id} was not final after 30 ms: it is pending, number 2 in its line (behind the operations before it)`,
  )
  expect((await errorOf(first.result({ timeoutMs: 30 }))).message).toContain('number 1 in its line')
  expect(await second.status()).toBe('pending')
  await waitFor(async () => (await waiterRows(pool)) === 0, { message: 'no waiter row is left' })
})

test('an aborted wait rejects with the reason and leaves no waiter', async ({ inturn, pool }) => {
  const handle = await inturn.enqueue(message('aborted', 'Hi'))
  const controller = new AbortController()
  const waiting = errorOf(handle.result({ signal: controller.signal }))
  await waitFor(async () => (await waiterRows(pool)) === 1, { message: 'the waiter row' })
  controller.abort(new Error('changed my mind'))
  expect((await waiting).message).toBe('changed my mind')
  const again = await errorOf(handle.result({ signal: controller.signal }))
  expect(again.message).toBe('changed my mind')
  await waitFor(async () => (await waiterRows(pool)) === 0, { message: 'no waiter row is left' })
})

test('two who wait for one operation are apart: one may leave', async ({ inturn, pool, url }) => {
  const handle = await inturn.enqueue(message('two', 'Hi'))
  const staying = handle.result({ timeoutMs: Infinity })
  expect((await errorOf(handle.result({ timeoutMs: 10 }))).code).toBe('result_timeout')
  await using _line = await serve(pool, url)
  expect((await staying).text).toBe('You said: Hi')
})

test('an operation that is not there is not waited for', async ({ inturn, pool }) => {
  expect((await errorOf(inturn.operation(999_999))).code).toBe('operation_not_found')
  const transaction = await pool.connect()
  try {
    await transaction.query('begin')
    const undone = await inturn.enqueue(message('undone', 'Hi'), { transaction })
    await transaction.query('rollback')
    expect((await errorOf(undone.result())).code).toBe('operation_not_found')
    expect((await errorOf(undone.status())).code).toBe('operation_not_found')
    expect((await errorOf(undone.cancel())).code).toBe('operation_not_found')
  } finally {
    transaction.release()
  }
})

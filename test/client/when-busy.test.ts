import { expect } from 'vitest'
import {
  Inturn,
  OperationFailedError,
  OperationSupersededError,
  RefusedError,
  ResultTimeoutError,
} from '../../src/index.ts'
import { test as base } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf, waiterRows } from './rows.ts'
import { serve } from './serving.ts'

const test = base.extend('inturn', { scope: 'file' }, async ({ url }, { onCleanup }) => {
  const inturn = new Inturn({ databaseUrl: url })
  onCleanup(() => inturn.close())
  return inturn
})
const run = { model: 'm' }

test('the result of a merged operation is that of the one which took its message along', async ({
  inturn,
  pool,
  url,
}) => {
  const thread = inturn.thread('merged')
  const first = await thread.addMessage('one')
  const second = await thread.send('two', run)
  const last = await thread.send('three', run, { ifBusy: 'merge' })
  const waiting = [first, second, last].map((handle) => handle.result())
  await using _line = await serve(pool, url)
  const result = { text: 'You said: three', message_id: `msg_${last.id}` }
  expect(await Promise.all(waiting)).toEqual([result, result, result])
  expect(await first.result()).toEqual(result)
  expect(await first.status()).toBe('cancelled')
  await waitFor(async () => (await waiterRows(pool)) === 0)
})

test('the failure of that one is thrown, and names it', async ({ inturn, pool, url }) => {
  const thread = inturn.thread('merged and failed')
  const first = await thread.send('one', run)
  const last = await thread.send('fail', run, { ifBusy: 'merge' })
  await using _line = await serve(pool, url)
  const error = await errorOf(first.result())
  expect(error).toBeInstanceOf(OperationFailedError)
  expect(error).toMatchObject({ code: 'quota', operationId: last.id })
})

test('who waits for a merged operation may give up also then', async ({ inturn, pool, url }) => {
  const started = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  await using _line = await serve(pool, url, () => {
    started.resolve()
    return goOn.promise
  })
  const [first, last] = await inturn.enqueue([
    { thread: 'gave up', operation: 'add_message', data: { message: 'one' } },
    { thread: 'gave up', operation: 'create_run', data: run, ifBusy: 'merge' },
  ])
  await started.promise
  expect(await first.status()).toBe('cancelled')
  const abort = new AbortController()
  const aborted = errorOf(first.result({ signal: abort.signal }))
  const late = await errorOf(first.result({ timeoutMs: 300 }))
  expect(late).toBeInstanceOf(ResultTimeoutError)
  expect(late).toMatchObject({ operationId: last.id })
  abort.abort(new Error('enough'))
  expect((await aborted).message).toBe('enough')
  goOn.resolve()
  await last.result()
})

test('a superseded operation throws who has superseded it', async ({ inturn, pool, url }) => {
  const thread = inturn.thread('superseded')
  const first = await thread.send('one', run)
  const last = await thread.send('two', run, { ifBusy: 'latest' })
  const waiting = errorOf(first.result())
  await using _line = await serve(pool, url)
  const error = await waiting
  expect(error).toBeInstanceOf(OperationSupersededError)
  expect(error).toMatchObject({
    code: 'superseded',
    operationId: first.id,
    supersededBy: last.id,
  })
})

test('a refused operation throws what was in its way, at once', async ({ inturn }) => {
  const thread = inturn.thread('refused')
  const first = await thread.send('one', run)
  const second = await thread.send('two', run, { ifBusy: 'reject', idempotencyKey: 'k' })
  const error = await errorOf(second.result())
  expect(error).toBeInstanceOf(OperationFailedError)
  expect(error).toMatchObject({ code: 'thread_busy', busyWith: first.id, operationId: second.id })
  const again = await thread.send('two', run, { ifBusy: 'reject', idempotencyKey: 'k' })
  expect(again.id).toBe(second.id)
})

test('a thread is configured before its first operation and at any time', async ({
  inturn,
  pool,
}) => {
  const thread = inturn.thread('configured')
  const settings = async () =>
    (
      await pool.query(
        `select on_failure, if_busy, debounce_ms, debounce_max_ms from threads where id = 'configured'`,
      )
    ).rows[0]
  await thread.configure({})
  expect(await settings()).toBeUndefined()
  await thread.configure({ ifBusy: 'merge', debounceMs: 800 })
  const merge = { if_busy: 'merge', debounce_ms: 800 }
  expect(await settings()).toEqual({ on_failure: 'continue', ...merge, debounce_max_ms: null })
  await thread.configure({ onFailure: 'halt', debounceMaxMs: 5_000 })
  expect(await settings()).toEqual({ on_failure: 'halt', ...merge, debounce_max_ms: 5_000 })
  await thread.configure({ ifBusy: 'enqueue', debounceMs: null })
  expect(await settings()).toMatchObject({ if_busy: 'enqueue', debounce_ms: null })
  const wrong = await errorOf(thread.configure({ ifBusy: 'skip' as 'reject' }))
  expect(wrong).toBeInstanceOf(RefusedError)
  expect(wrong.code).toBe('thread_if_busy_is_a_strategy')
})

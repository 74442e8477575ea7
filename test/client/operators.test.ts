import { expect } from 'vitest'
import { Inturn, RefusedError } from '../../src/index.ts'
import { failed, HandDriven, heldBecause } from '../support/hand-driven.ts'
import { test } from '../support/own-database.ts'
import { errorOf } from './rows.ts'
import { serve } from './serving.ts'

test('an operation that failed is sent back, and its result can be waited for anew', async ({
  url,
  pool,
  connected,
}) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const handle = await inturn.thread('t').addMessage('Hi')
  const d = await HandDriven.signOn(await connected())
  const result = errorOf(handle.result())
  await d.settle(await d.claimOnly(), failed)
  expect(await result).toMatchObject({ code: 'no' })
  await handle.retry({ at: 'head' })
  expect(await handle.status()).toBe('pending')
  const refused = await errorOf(handle.retry({ at: 'tail' }))
  expect(refused).toBeInstanceOf(RefusedError)
  expect(refused).toMatchObject({
    code: 'only_failed_and_cancelled_go_back',
    hint: expect.stringContaining('in its line already'),
  })
  await using _line = await serve(pool, url)
  expect(await handle.result()).toMatchObject({ text: 'You said: Hi' })
  expect(await inturn.thread('t').timeline()).toMatchObject([
    { event: 'joined the line' },
    { event: 'started' },
    { event: 'failed' },
    { event: 'went back into the line' },
    { event: 'started again' },
    { event: 'completed' },
  ])
})

test('a place that TypeScript would not let through is refused by the database', async ({
  url,
  pool,
  connected,
}) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const d = await HandDriven.signOn(await connected())
  const handle = await inturn.thread('t').addMessage('Hi')
  await d.settle(await d.claimOnly(), failed)
  expect(await errorOf(handle.retry({ at: 'front' as 'head' }))).toMatchObject({
    code: 'place_is_head_or_tail',
  })
  await pool.query('update threads set closed_at = now()')
  expect(await errorOf(handle.retry({ at: 'head' }))).toMatchObject({ code: 'thread_is_open' })
})

test('a thread that waits for an operator is resumed, and its state says so before', async ({
  url,
  pool,
  connected,
}) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const d = await HandDriven.signOn(await connected())
  const thread = inturn.thread('t')
  expect(await errorOf(thread.resume())).toMatchObject({ code: 'thread_waits_for_an_operator' })
  await pool.query(`insert into threads (id, on_failure) values ('t', 'halt')`)
  const { id } = await thread.addMessage('Hi')
  await d.settle(await d.claimOnly(), heldBecause('outcome_unknown'))
  expect(await thread.state()).toMatchObject({ state: 'held', waiting: 1 })
  expect(await thread.resume()).toEqual({ operationId: id, was: 'held' })
  await d.settle(await d.claimOnly(), failed)
  expect(await thread.state()).toMatchObject({ state: 'halted', waiting: 0 })
  expect(await thread.resume()).toEqual({ operationId: id, was: 'halted' })
  expect(await thread.state()).toMatchObject({ state: 'idle' })
  const story = await thread.timeline()
  expect(story.filter(({ event }) => event === 'was resumed')).toHaveLength(2)
})

test('a resume that meets somebody’s open transaction says so', async ({ url, connected }) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const d = await HandDriven.signOn(await connected())
  await inturn.thread('t').addMessage('Hi')
  await d.settle(await d.claimOnly(), heldBecause('outcome_unknown'))
  const user = await connected()
  await user.query('begin')
  await user.query('select from thread_operations for update')
  expect(await errorOf(inturn.thread('t').resume())).toMatchObject({
    code: 'row_locked',
    hint: expect.stringContaining('pg_stat_activity'),
  })
  await user.query('rollback')
  expect(await inturn.thread('t').resume()).toMatchObject({ was: 'held' })
})

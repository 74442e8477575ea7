import { describe, expect } from 'vitest'
import type { ProviderName } from '../../src/model/thread.ts'
import type { Provider } from '../../src/provider/provider.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, startLine, who } from './line.ts'

const gone = { code: 'thread_deleted' }

/** A model that answers when it is told to. */
function stalling() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { answer: resolve, model: () => promise.then(() => ({ text: 'Late.' })) }
}

/** A conversation that nobody here has made. */
async function outside(line: Line, name: ProviderName): Promise<string> {
  const options = { signal: AbortSignal.timeout(5_000), timeoutMs: 1_000 }
  return (await (line.providers[name] as Provider).createThread({}, options)).id
}

/** Whether the provider knows the thread no more, and has kept nothing of it. */
async function expectGone(line: Line, providerThreadId: string): Promise<void> {
  expect(() => line.emulator.history(providerThreadId)).toThrow('no thread')
  expect(line.emulator.keptItems()).toEqual([])
}

const refused = (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    () => expect.unreachable('it was not refused'),
    (error) => error,
  )

describe.each(['responses', 'assistants'] as const)('delete_thread on "%s"', (name) => {
  test('deletes the conversation, and proves it', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:simple`
    await line.do(thread, 'add_message_and_run', { message: 'Hi', ...who })
    const { provider_thread_id: id } = await line.thread(thread)
    const row = await line.do(thread, 'delete_thread', {})
    expect(row).toMatchObject({
      status: 'completed',
      result: {
        deleted: [{ generation: 1, provider_thread_id: id, items: name === 'responses' ? 2 : 0 }],
      },
    })
    await expectGone(line, id)
    expect(await line.thread(thread)).toMatchObject({
      provider_thread_id: null,
      closed_at: expect.any(Date),
      deleted_at: expect.any(Date),
    })
    const { rows } = await pool.query('select * from thread_generations where thread_id = $1', [
      thread,
    ])
    expect(rows).toMatchObject([
      { ended_by: 'deleted', deleted_at: expect.any(Date), proof: { gone_at: expect.any(String) } },
    ])
    const again = await line.do(thread, 'delete_thread', {})
    expect(again).toMatchObject({ status: 'completed', result: row.result })
  })

  test('cancels the run that goes on, and ends what waits', async ({ pool }) => {
    const { model, answer } = stalling()
    const line = await startLine(pool, name, { emulator: { model } })
    const thread = `${name}:in a run`
    const running = await line.insert(thread, 'add_message_and_run', { message: 'Hi', ...who })
    await waitFor(() => line.emulator.stats.runsStarted === 1)
    const waiting = await line.insert(thread, 'add_message', { message: 'Too late' })
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, data, scheduled_at)
       values ($1, 'add_message', '{"message": "Later"}', now() + interval '1 hour') returning id`,
      [thread],
    )
    const deletion = await line.do(thread, 'delete_thread', {})
    answer()
    expect(deletion.status).toBe('completed')
    const error = await line.end(running)
    expect(error).toMatchObject({
      status: 'cancelled',
      error: {
        code: 'cancelled',
        message: expect.stringContaining(`operation ${deletion.id} deletes`),
      },
    })
    expect(await line.end(waiting)).toMatchObject({ status: 'cancelled', error: gone })
    expect(await line.end(rows[0].id)).toMatchObject({ status: 'cancelled', error: gone })
    await expectGone(line, deletion.result.deleted[0].provider_thread_id)
    expect(line.emulator.runs().map(({ status }) => status)).toEqual(['cancelled'])
  })

  test('refuses later operations until the thread is opened again', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:refusing`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const old = (await line.thread(thread)).provider_thread_id
    await line.do(thread, 'delete_thread', {})
    const error = await refused(line.insert(thread, 'add_message', { message: 'Too late' }))
    expect(error).toMatchObject({
      constraint: 'thread_is_open',
      message: `the conversation of thread ${thread} was deleted, and it takes no more operations`,
      hint: expect.stringContaining(`SELECT reopen_thread('${thread}')`),
    })
    await pool.query('select reopen_thread($1)', [thread])
    const row = await line.do(thread, 'add_message', { message: 'Anew' })
    expect(row.status).toBe('completed')
    expect(row.result.provider_thread_id).not.toBe(old)
    expect(await line.said(thread)).toEqual(['user: Anew'])
    expect((await line.thread(thread)).generation).toBe(2)
  })

  test('ends a round of tool calls, a hold, and what waits for its next attempt', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { maxAttempts: 100 })
    const described = { name: 'weather', parameters: { type: 'object', properties: {} } }
    const tool =
      name === 'responses'
        ? { type: 'function', strict: false, ...described }
        : { type: 'function', function: described }
    const asking = await line.insert(`${name}:asking`, 'add_message_and_run', {
      message: 'Call weather.',
      tools: [tool],
      ...who,
    })
    await waitFor(async () => (await line.row(asking)).status === 'requires_action')
    await line.do(`${name}:held`, 'add_message', { message: 'Hi' })
    const hold = await line.insert(`${name}:held`, 'hold', { lease_ms: 3_600_000 })
    await waitFor(async () => ((await line.row(hold)) as { held_until?: Date }).held_until)
    await line.do(`${name}:retrying`, 'add_message', { message: 'Hi' })
    await line.secondIsOver(`${name}:retrying`)
    const { provider_thread_id: busy } = await line.thread(`${name}:retrying`)
    line.emulator.foreignRun(busy, { ms: 2_000 })
    const retrying = await line.insert(`${name}:retrying`, 'add_message', { message: 'Again' })
    await waitFor(async () => (await line.row(retrying)).error !== null)
    for (const kind of ['retrying', 'asking', 'held']) {
      const deletion = await line.do(`${name}:${kind}`, 'delete_thread', {})
      expect(deletion).toMatchObject({ status: 'completed' })
      await expectGone(line, deletion.result.deleted[0].provider_thread_id)
    }
    for (const id of [asking, hold, retrying])
      expect(await line.end(id)).toMatchObject({
        status: 'cancelled',
        error: { code: 'cancelled' },
      })
    await expectHealthy(pool)
  })

  test('archives before where it is asked to, and deletes nothing where it cannot', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { maxAttempts: 2 })
    const [list, thread, other] = [
      name === 'responses' ? 'items.list' : 'messages.list',
      `${name}:archived`,
      `${name}:not archived`,
    ] as const
    for (const id of [thread, other]) await line.do(id, 'add_message', { message: 'Keep me' })
    const archived = await line.do(thread, 'delete_thread', { archive: true })
    const { rows } = await pool.query(
      `select a.reason, m.text from archived_messages m join thread_archives a on a.id = m.archive_id where a.id = $1`,
      [archived.result.archive_id],
    )
    expect(rows).toEqual([{ reason: 'deleted', text: 'Keep me' }])
    line.emulator.setFaults([{ name: 'server_error_before_commit', on: list }])
    const failed = await line.do(other, 'delete_thread', { archive: true })
    expect(failed.status).toBe('failed')
    expect(await line.said(other)).toEqual(['user: Keep me'])
    expect(await line.thread(other)).toMatchObject({ closed_at: null, deleted_at: null })
    line.emulator.setFaults([])
    await pool.query(`select retry_operation($1, 'head')`, [failed.id])
    expect(await line.end(failed.id)).toMatchObject({
      status: 'completed',
      result: { archive_id: expect.any(Number) },
    })
  })

  test(`${name === 'responses' ? 'waits for' : 'cancels'} the run of somebody else`, async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:foreign`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id: id } = await line.thread(thread)
    line.emulator.foreignRun(id, { ms: name === 'responses' ? 300 : 3_600_000 })
    const row = await line.do(thread, 'delete_thread', {})
    expect(row.status).toBe('completed')
    expect(line.emulator.runs(id).map(({ status }) => status)).toEqual([
      name === 'responses' ? 'completed' : 'cancelled',
    ])
    await expectGone(line, id)
  })

  test('fails for a run of somebody else that does not end, and nothing is deleted', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { foreignRunMs: 200, callTimeoutMs: 200 })
    const thread = `${name}:never ends`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id: id } = await line.thread(thread)
    line.emulator.setFaults([{ name: 'stuck_cancelling', on: 'runs.cancel' }])
    line.emulator.foreignRun(id, { ms: 3_600_000 })
    const row = await line.do(thread, 'delete_thread', {})
    expect(row).toMatchObject({ status: 'failed', error: { code: 'foreign_run_timeout' } })
    expect(await line.said(thread)).toEqual(['user: Hi'])
    expect(await line.thread(thread)).toMatchObject({ closed_at: null, provider_thread_id: id })
  })

  test('can be cancelled before it begins, and the thread goes on', async ({ pool }) => {
    const line = await startLine(pool, name, { callTimeoutMs: 200 })
    const thread = `${name}:cancelled`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id: id } = await line.thread(thread)
    line.emulator.setFaults([{ name: 'stuck_cancelling', on: 'runs.cancel', ms: 1_000 }])
    line.emulator.foreignRun(id, { ms: 1_000 })
    const deletion = await line.insert(thread, 'delete_thread', {})
    await waitFor(async () => (await line.row(deletion)).error !== null)
    await line.insert(thread, 'cancel_run', { operation_id: deletion })
    expect(await line.end(deletion)).toMatchObject({
      status: 'cancelled',
      error: { code: 'cancelled' },
    })
    const next = await line.do(thread, 'add_message', { message: 'Still here' })
    expect(next).toMatchObject({ status: 'completed', result: { provider_thread_id: id } })
  })

  test('is not cancelled once something is deleted', async ({ pool }) => {
    const line = await startLine(pool, name, { maxAttempts: 100 })
    const thread = `${name}:begun`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id: id } = await line.thread(thread)
    const last = name === 'responses' ? 'conversations.delete' : 'threads.delete'
    line.emulator.setFaults([{ name: 'server_error_before_commit', on: last }])
    const deletion = await line.insert(thread, 'delete_thread', {})
    await waitFor(async () => (await line.row(deletion)).error !== null)
    const error = await refused(
      pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [deletion]),
    )
    expect(error.constraint).toMatch(
      /^(what_is_under_way_is_ended_first|active_operation_is_not_updated)$/,
    )
    const cancel = await line.insert(thread, 'cancel_run', { operation_id: deletion })
    await waitFor(async () => (await line.row(deletion)).error?.operation_id === cancel)
    line.emulator.setFaults([])
    expect(await line.end(deletion)).toMatchObject({ status: 'completed' })
    expect((await line.end(cancel)).result).toMatchObject({ outcome: 'completed' })
    await expectGone(line, id)
  })

  test('begins a new conversation where the policy says so, whoever comes in between', async ({
    pool,
  }) => {
    const { model, answer } = stalling()
    const line = await startLine(pool, name, { emulator: { model } })
    await pool.query(
      `insert into thread_policies (name, reopen) values ('open', true) on conflict do nothing`,
    )
    const thread = `${name}:reopening`
    await pool.query(`insert into threads (id, provider, policy) values ($1, $2, 'open')`, [
      thread,
      name,
    ])
    const running = line.insert(thread, 'add_message_and_run', { message: 'old', ...who })
    const ids = [await running]
    await waitFor(() => line.emulator.stats.runsStarted === 1)
    const deletion = await line.insert(thread, 'delete_thread', {})
    for (let n = 0; n < 5; n++)
      ids.push(await line.insert(thread, 'add_message', { message: `new ${n}` }))
    const { result } = await line.end(deletion)
    answer()
    ids.push(await line.insert(thread, 'add_message', { message: 'last' }))
    const rows = await Promise.all(ids.map((id) => line.end(id)))
    const { rows: threads } = await pool.query('select * from threads where id = $1', [thread])
    expect(threads[0]).toMatchObject({
      closed_at: null,
      deleted_at: null,
      ended_before: expect.any(Number),
    })
    for (const row of rows) {
      if (row.id < threads[0].ended_before) expect(row.status).toBe('cancelled')
      else
        expect(row).toMatchObject({
          status: 'completed',
          result: { provider_thread_id: threads[0].provider_thread_id },
        })
    }
    expect(rows.at(-1)?.status).toBe('completed')
    expect(await line.said(thread)).toEqual(
      rows
        .filter((row) => row.status === 'completed')
        .map((row: any) => `user: ${row.data.message}`),
    )
    await expectGone(line, result.deleted[0]?.provider_thread_id ?? 'none')
    await expectHealthy(pool)
  })

  test('is served on a halted line, and cancel_rest does not cancel it', async ({ pool }) => {
    const line = await startLine(pool, name, {
      emulator: { failRun: () => ({ code: 'invalid_prompt', message: 'No.' }) },
    })
    for (const onFailure of ['halt', 'cancel_rest']) {
      const thread = `${name}:${onFailure}`
      await pool.query('insert into threads (id, provider, on_failure) values ($1, $2, $3)', [
        thread,
        name,
        onFailure,
      ])
      const failing = await line.insert(thread, 'add_message_and_run', { message: 'Hi', ...who })
      const waiting = await line.insert(thread, 'add_message', { message: 'Behind it' })
      expect((await line.end(failing)).status).toBe('failed')
      expect((await line.do(thread, 'delete_thread', {})).status).toBe('completed')
      expect((await line.end(waiting)).status).toBe('cancelled')
    }
    await expectHealthy(pool)
  })

  test('acts when it is due, where it is scheduled', async ({ pool }) => {
    const { model, answer } = stalling()
    const line = await startLine(pool, name, { emulator: { model } })
    const thread = `${name}:scheduled`
    const running = await line.insert(thread, 'add_message_and_run', { message: 'Hi', ...who })
    await waitFor(() => line.emulator.stats.runsStarted === 1)
    const waiting = await line.insert(thread, 'add_message', { message: 'Too late' })
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, scheduled_at) values ($1, 'delete_thread', now() + interval '300 ms') returning id, status`,
      [thread],
    )
    expect(rows[0].status).toBe('scheduled')
    expect((await line.end(rows[0].id)).status).toBe('completed')
    answer()
    expect((await line.end(running)).error.code).toBe('cancelled')
    expect(await line.end(waiting)).toMatchObject({ status: 'cancelled', error: gone })
  })

  test('of a thread that never had a conversation, or has the name of one, is as good', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    expect(await line.do(`${name}:nothing`, 'delete_thread', {})).toMatchObject({
      status: 'completed',
      result: { deleted: [] },
    })
    const id = await outside(line, name)
    await line.do(id, 'add_message', { message: 'Hi' })
    const row = await line.do(id, 'delete_thread', { reopen: true })
    expect(row.result.deleted).toMatchObject([{ provider_thread_id: id }])
    await expectGone(line, id)
    const anew = await line.do(id, 'add_message', { message: 'Anew' })
    expect(anew.result.provider_thread_id).not.toBe(id)
  })

  test('an ended operation is served when it is sent back after the thread was opened again', async ({
    pool,
  }) => {
    const { model, answer } = stalling()
    const line = await startLine(pool, name, { emulator: { model } })
    const thread = `${name}:sent back`
    const running = await line.insert(thread, 'add_message_and_run', { message: 'first', ...who })
    await waitFor(() => line.emulator.stats.runsStarted === 1)
    const waiting = await line.insert(thread, 'add_message', { message: 'second' })
    await line.do(thread, 'delete_thread', {})
    answer()
    await line.end(waiting)
    const error = await refused(pool.query(`select retry_operation($1, 'tail')`, [waiting]))
    expect(error.constraint).toBe('thread_is_open')
    await pool.query('select reopen_thread($1)', [thread])
    for (const id of [running, waiting]) {
      await pool.query(`select retry_operation($1, 'tail')`, [id])
      expect(await line.end(id)).toMatchObject({ status: 'completed' })
    }
    expect(await line.said(thread)).toEqual(['user: first', 'assistant: Late.', 'user: second'])
    expect((await line.thread(thread)).generation).toBe(2)
  })

  test('that fails leaves a closed thread, and what waits is served into no half of a conversation', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { maxAttempts: 1 })
    const thread = `${name}:half`
    await line.do(thread, 'add_message', { message: 'Hi' })
    const { provider_thread_id: id } = await line.thread(thread)
    const last = name === 'responses' ? 'conversations.delete' : 'threads.delete'
    line.emulator.setFaults([{ name: 'server_error_before_commit', on: last }])
    const hold = await line.insert(thread, 'hold', {})
    await waitFor(async () => ((await line.row(hold)) as { held_until?: Date }).held_until)
    const waiting = await line.insert(thread, 'add_message', { message: 'Waiting' })
    const deletion = await line.do(thread, 'delete_thread', {})
    expect(deletion.status).toBe('failed')
    expect(await line.end(waiting)).toMatchObject({ status: 'cancelled', error: gone })
    expect(await line.thread(thread)).toMatchObject({
      closed_at: expect.any(Date),
      deleted_at: null,
    })
    line.emulator.setFaults([])
    await pool.query('select reopen_thread($1)', [thread])
    const anew = await line.do(thread, 'add_message', { message: 'Anew' })
    expect(anew.result.provider_thread_id).not.toBe(id)
    await pool.query(`select retry_operation($1, 'head')`, [deletion.id])
    const { status, result } = await line.end(deletion.id)
    expect(status).toBe('completed')
    expect(result.deleted).toMatchObject([
      { provider_thread_id: id },
      { provider_thread_id: anew.result.provider_thread_id },
    ])
    await expectGone(line, anew.result.provider_thread_id)
    expect(await line.thread(thread)).toMatchObject({
      deleted_at: expect.any(Date),
      provider_thread_id: null,
    })
    await expectHealthy(pool)
  })

  test('waits for nobody, and says so', async ({ pool }) => {
    const error = await refused(
      pool.query(
        `insert into thread_operations (thread_id, operation, if_busy) values ('t', 'delete_thread', 'reject')`,
      ),
    )
    expect(error).toMatchObject({
      constraint: 'deletion_waits_for_nobody',
      hint: expect.stringContaining('scheduled_at'),
    })
    const open = await refused(pool.query(`select reopen_thread('nobody')`))
    expect(open).toMatchObject({
      constraint: 'thread_is_closed',
      message: 'there is no thread nobody',
    })
  })
})

test('items that a list does not show yet are deleted all the same', async ({ pool }) => {
  const line = await startLine(pool, 'responses', { settleMs: 1_500, maxAttempts: 1 })
  await line.do('lagging', 'add_message', { message: 'Seen' })
  line.emulator.setFaults([{ name: 'read_lag', on: 'items.list', ms: 700 }])
  await line.do('lagging', 'add_message', { message: 'Hidden' })
  const row = await line.do('lagging', 'delete_thread', {})
  expect(row).toMatchObject({
    status: 'completed',
    failures: 0,
    result: { deleted: [{ items: 2 }] },
  })
  expect(line.emulator.keptItems()).toEqual([])
  expect((await line.ledger(row.id)).map(({ code }) => code)).toContain('settling')
})

test('a conversation of many pages is emptied, whatever goes wrong on the way', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses', { maxAttempts: 1_000 })
  await line.do('long', 'add_message', { message: 'first' })
  const { provider_thread_id: id } = await line.thread('long')
  const path = `${line.emulator.url}/conversations/${id}/items`
  const items = Array.from({ length: 20 }, (_, n) => ({
    type: 'message',
    role: 'user',
    content: `n ${n}`,
  }))
  for (let n = 0; n < 12; n++)
    await fetch(path, {
      method: 'POST',
      headers: { authorization: 'Bearer any', 'content-type': 'application/json' },
      body: JSON.stringify({ items }),
    })
  line.emulator.setFaults([
    { name: 'server_error_after_commit', on: 'items.delete', probability: 0.02 },
    { name: 'server_error_before_commit', on: 'items.delete', probability: 0.02 },
  ])
  const row = await line.do('long', 'delete_thread', {})
  expect(row.status).toBe('completed')
  expect(line.emulator.keptItems()).toEqual([])
})

import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { asLine } from '../support/line.ts'
import { type Line, messagesPath, startLine, who } from './line.ts'

const ask = { message: 'reply with exactly: going on', ...who }
const call = (type: string, n: number) => ({
  type,
  call_id: `call_${n}`,
  name: 'get_weather',
  arguments: '{}',
})

/** Somebody else leaves these items in the conversation of a thread. */
async function leave(line: Line, thread: string, items: object[]): Promise<void> {
  const { provider_thread_id } = await line.thread(thread)
  const url = `${line.emulator.url}/conversations/${provider_thread_id}/items`
  const headers = { authorization: 'Bearer any', 'content-type': 'application/json' }
  for (let start = 0; start < items.length; start += 20) {
    const body = JSON.stringify({ items: items.slice(start, start + 20) })
    expect((await fetch(url, { method: 'POST', headers, body })).status).toBe(200)
  }
}

const answersSent = (line: Line): Array<{ type: string; call_id: string }> =>
  line
    .sent('POST', messagesPath)
    .flatMap(({ body }) => JSON.parse(body).items)
    .filter(({ type }: { type: string }) => type.endsWith('_output'))

const refusal = (message: string, code: string | null = null) => ({
  status: 400,
  body: { error: { message, type: 'invalid_request_error', param: 'input', code } },
})

describe('a conversation in which calls were left unanswered', () => {
  test('is repaired: each gets an error for an output, and the operation goes on', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses')
    await line.do('open calls', 'create_thread', {})
    await leave(line, 'open calls', [
      call('function_call', 1),
      { type: 'function_call_output', call_id: 'call_1', output: 'sunny' },
      ...Array.from({ length: 25 }, (_, n) => call('function_call', n + 2)),
    ])
    const row = await line.do('open calls', 'add_message_and_run', ask)
    expect(row).toMatchObject({ status: 'completed', attempts: 1, result: { text: 'going on' } })
    expect(answersSent(line).map(({ call_id }) => call_id)).toEqual(
      Array.from({ length: 25 }, (_, n) => `call_${n + 2}`),
    )
    // A call of the API takes 20 items.
    expect(line.sent('POST', messagesPath)).toHaveLength(2)
    expect(line.emulator.stats.runsStarted).toBe(1)
  })

  test('is repaired once, whatever answers are lost on the way', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { callTimeoutMs: 300 })
    const thread = 'open and lost'
    await line.do(thread, 'create_thread', {})
    await leave(
      line,
      thread,
      Array.from({ length: 25 }, (_, n) => call('function_call', n)),
    )
    line.emulator.setFaults([
      { name: 'reset_after_commit', on: 'items.create', times: 1 },
      { name: 'server_error_before_commit', on: 'items.create', times: 1 },
    ])
    const row = await line.do(thread, 'add_message_and_run', ask)
    expect(row).toMatchObject({ status: 'completed', failures: 2, result: { text: 'going on' } })
    const { provider_thread_id } = await line.thread(thread)
    const options = { signal: new AbortController().signal, timeoutMs: 5_000 }
    expect(await line.providers.responses?.openCalls(provider_thread_id, null, options)).toEqual([])
    expect(line.emulator.stats.runsStarted).toBe(1)
  })

  test('answers calls of every type that takes an error', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await line.do('types', 'create_thread', {})
    const types = ['custom_tool_call', 'shell_call', 'apply_patch_call', 'local_shell_call']
    await leave(line, 'types', [
      ...types.map((type, n) => call(type, n)),
      // The provider's own, without a call_id.
      { type: 'web_search_call', status: 'completed' },
      call('function_call', 9),
    ])
    const row = await line.do('types', 'add_message_and_run', ask)
    expect(row).toMatchObject({ status: 'completed', result: { text: 'going on' } })
    expect(answersSent(line).map(({ type }) => type)).toEqual([
      ...types.map((type) => `${type}_output`),
      'function_call_output',
    ])
  })

  test('is held where a call cannot be answered with an error', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    await line.do('computer', 'create_thread', {})
    await leave(line, 'computer', [call('computer_call', 1), call('function_call', 2)])
    const id = await line.insert('computer', 'add_message_and_run', ask)
    const row = await line.waiting(id, 'call_not_answerable')
    expect(row.status).toBe('pending')
    expect(row.error.message).toContain('call_1 (computer_call)')
    expect(row.error.message).toContain('`inturn resume "computer"`')
  })

  test('is held where the repair has not helped, and goes on when it is mended', async ({
    pool,
  }) => {
    const message = 'No tool output found for function call call_x.'
    let isWedged = true
    const line = await startLine(pool, 'responses', {
      emulator: {
        onRequest: ({ method, path }) =>
          isWedged && method === 'POST' && path.endsWith('/responses')
            ? refusal(message)
            : undefined,
      },
    })
    const id = await line.insert('not helped', 'add_message_and_run', ask)
    const behind = await line.insert('not helped', 'add_message', { message: 'behind it' })
    const row = await line.waiting(id, 'tool_output_missing')
    expect(row).toMatchObject({
      status: 'pending',
      ready_at: new Date('9999-01-01T00:00:00Z'),
      failures: 0,
      error: { provider_status: 400, request_id: expect.any(String) },
    })
    expect(row.error.message).toContain(message)
    expect((await line.row(behind)).status).toBe('pending')

    isWedged = false
    await asLine(pool, (client) =>
      client.query('update thread_operations set ready_at = clock_timestamp() where id = $1', [id]),
    )
    expect((await line.end(id)).status).toBe('completed')
    expect((await line.end(behind)).status).toBe('completed')
  })
})

test('a conversation that has lost half of a reasoning pair is held, with its items named', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses')
  line.emulator.setFaults([{ name: 'reasoning_lost', times: 1 }])
  const { result } = await line.do('half a pair', 'add_message_and_run', ask)
  const id = await line.insert('half a pair', 'add_message_and_run', ask)
  const row = await line.waiting(id, 'reasoning_item_missing')
  expect(row).toMatchObject({ status: 'pending', failures: 0, error: { provider_status: 400 } })
  const written = line.emulator.history(result.provider_thread_id).at(-1)?.id
  for (const words of [`Item '${written}'`, 'Delete the item', '`inturn resume "half a pair"`'])
    expect(row.error.message).toContain(words)
  expect(line.sent('POST', /\/responses$/)).toHaveLength(2)
})

test('a conversation that is too long fails its operation, which says what to do', async ({
  pool,
}) => {
  const line = await startLine(pool, 'responses', {
    emulator: {
      onRequest: ({ method, path }) =>
        method === 'POST' && path.endsWith('/responses')
          ? refusal('At most 128000 tokens.', 'context_length_exceeded')
          : undefined,
    },
  })
  const row = await line.do('too long', 'add_message_and_run', ask)
  expect(row).toMatchObject({ status: 'failed', error: { code: 'context_length_exceeded' } })
  expect(row.error.message).toContain('"context_management"')
})

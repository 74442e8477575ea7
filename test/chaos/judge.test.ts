import type pg from 'pg'
import { describe, expect } from 'vitest'
import { judge } from '../../chaos/judge.ts'
import { type Line, startLine } from '../operations/line.ts'
import { test } from '../support/own-database.ts'
import type { Sent } from '../support/promised-order.ts'

const run = (number: number) => ({
  message: `message ${number}`,
  model: 'gpt-4o',
  assistant_id: 'asst_abcdefghijklmnopqrstuvwx',
  instructions: `Reply with exactly: answer ${number}`,
})

/** Two turns and a message on one thread, and what their writers saw. */
async function served(pool: pg.Pool, line: Line): Promise<Sent[]> {
  const sent: Sent[] = []
  for (const [operation, data] of [
    ['add_message_and_run', run(1)],
    ['add_message', { message: 'ok' }],
    ['add_message_and_run', run(2)],
  ] as const) {
    const id = await line.insert('t', operation, data)
    const at = 2 * sent.length
    sent.push({ id, thread: 't', transaction: at, insertBegan: at, committed: at + 1 })
    await line.end(id)
  }
  await line.dispatcher.stop()
  return sent
}

/** What the judge says, as `offence: operations`. */
async function verdict(pool: pg.Pool, { emulator }: Line, sent: readonly Sent[]) {
  const { offenders } = await judge({ pool, emulator, sent, held: [] })
  return offenders.map(({ offence, operations }) => `${offence}: ${operations.join(', ')}`)
}

/** A request that did not come from an operation. */
async function request(line: Line, method: string, path: string, body?: object): Promise<Response> {
  return fetch(`${line.emulator.url}${path}`, {
    method,
    headers: {
      authorization: 'Bearer any',
      'openai-beta': 'assistants=v2',
      'content-type': 'application/json',
    },
    body: body && JSON.stringify(body),
  })
}

describe('the judge of the chaos', () => {
  test.for(['responses', 'assistants'] as const)(
    'has nothing to say where each effect is there once and in order ("%s")',
    async (name, { pool }) => {
      const line = await startLine(pool, name)
      expect(await verdict(pool, line, await served(pool, line))).toEqual([])
    },
  )

  test('sees what stands there twice, or no longer', async ({ pool }) => {
    const line = await startLine(pool, 'assistants')
    const sent = await served(pool, line)
    const [first, , last] = sent.map(({ id }) => id)
    const { provider_thread_id: thread } = await line.thread('t')
    await request(line, 'POST', `/threads/${thread}/messages`, {
      role: 'user',
      content: 'message 1',
    })
    expect(await verdict(pool, line, sent)).toEqual([`duplicate: ${first}`])
    const answer = line.emulator.history(thread).find(({ text }) => text === 'answer 2')
    await request(line, 'DELETE', `/threads/${thread}/messages/${answer?.id}`)
    expect(await verdict(pool, line, sent)).toEqual([`duplicate: ${first}`, `loss: ${last}`])
  })

  test('sees a second run, though it has said the same', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const sent = await served(pool, line)
    const last = sent.at(-1)?.id
    const answered = await request(line, 'POST', '/responses', {
      model: 'gpt-4o',
      input: 'Hi',
      metadata: { inturn_operation: String(last) },
    })
    expect(answered.status).toBe(200)
    expect(await verdict(pool, line, sent)).toEqual([`duplicate: ${last}`])
  })

  test('sees what was committed and is gone, and what was started too early', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const sent = await served(pool, line)
    const [first, , last] = sent as [Sent, Sent, Sent]
    const backwards = [
      { ...first, insertBegan: 10, committed: 11 },
      { ...last, insertBegan: 1, committed: 2 },
    ]
    expect(await verdict(pool, line, backwards)).toEqual([`order: ${last.id}, ${first.id}`])
    const lost = [...sent, { ...first, id: 999_999 }]
    expect(await verdict(pool, line, lost)).toEqual(['loss: 999999'])
  })

  test('asks for an explanation of each conflict', async ({ pool }) => {
    const line = await startLine(pool, 'assistants')
    const sent = await served(pool, line)
    const { provider_thread_id: thread } = await line.thread('t')
    line.emulator.foreignRun(thread, { ms: 60_000 })
    await request(line, 'POST', `/threads/${thread}/runs`, {
      assistant_id: run(1).assistant_id,
    })
    expect(await verdict(pool, line, sent)).toEqual(['conflict: '])
  })

  test('asks for none of a look at whether the conversation is locked, which it tells by being refused', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses')
    const sent = await served(pool, line)
    const { provider_thread_id: conversation } = await line.thread('t')
    line.emulator.foreignRun(conversation, { ms: 60_000 })
    const input = [{ type: 'item_reference', id: `msg_${'0'.repeat(48)}` }]
    const looked = await request(line, 'POST', '/responses', {
      model: 'gpt-4o',
      conversation,
      input,
      background: true,
    })
    expect(looked.status).toBe(400)
    expect(line.emulator.conflicts()).toMatchObject([{ probe: true, cause: 'foreign_run' }])
    expect(await verdict(pool, line, sent)).toEqual([])
  })
})

import { expect, vi } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import { loseFirstAnswer, messagesPath, startLine, who } from './line.ts'

type Line = Awaited<ReturnType<typeof startLine>>

/** What Assistants lists of a thread as said by users, oldest first. */
async function listed(line: Line, thread: string): Promise<string[]> {
  const { provider_thread_id } = await line.thread(thread)
  const answer = await fetch(
    `${line.emulator.url}/threads/${provider_thread_id}/messages?order=asc&limit=100`,
    { headers: { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' } },
  )
  type Listed = { role: string; content: Array<{ text: { value: string } }> }
  const { data } = (await answer.json()) as { data: Listed[] }
  const said = data.filter(({ role }) => role === 'user')
  return said.map(({ content }) => content[0]?.text.value ?? '')
}

const tiedOrder = { name: 'tied_order' } as const

test('messages of Assistants that follow one another closely are listed in the order of the line', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', { emulator: { faults: [tiedOrder] } })
  // Eight threads, because by chance two messages stand right.
  const threads = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => `close ${n}`)
  for (const thread of threads)
    for (const message of ['a', 'b', 'c']) await line.insert(thread, 'add_message', { message })
  const runs = threads.map((thread) =>
    line.do(thread, 'add_message_and_run', { message: 'reply with exactly: d', ...who }),
  )
  for (const row of await Promise.all(runs))
    expect(row).toMatchObject({ status: 'completed', failures: 0 })
  for (const thread of threads)
    expect(await listed(line, thread)).toEqual(['a', 'b', 'c', 'reply with exactly: d'])
  const { rows } = await pool.query(
    `select distinct code from operation_events where thread_id like 'close%' and code is not null`,
  )
  expect(rows).toEqual([{ code: 'same_second' }])
  await expectHealthy(pool)
})

test('messages that one run takes along are listed in the order of the line as well', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', { emulator: { faults: [tiedOrder] } })
  const threads = [1, 2, 3, 4, 5, 6].map((n) => `merged ${n}`)
  await pool.query(
    `insert into thread_operations (thread_id, operation, data, if_busy)
     select thread, kind, data, busy
       from unnest($1::text[]) as t (thread),
            (values ('add_message', '{"message": "a"}'::jsonb, null),
                    ('add_message', '{"message": "b"}', null),
                    ('add_message_and_run', $2, 'merge')) as o (kind, data, busy)`,
    [threads, { message: 'c', ...who }],
  )
  await waitFor(async () => {
    const unfinished = `select from thread_operations where thread_id like 'merged%' and finished_at is null`
    return (await pool.query(unfinished)).rowCount === 0
  })
  expect(line.emulator.stats.runsStarted).toBe(threads.length)
  for (const thread of threads) expect(await listed(line, thread)).toEqual(['a', 'b', 'c'])
  await expectHealthy(pool)
})

test('a message that waits for the second to be over holds no slot', async ({ pool }) => {
  const line = await startLine(pool, 'assistants')
  const waiting: number[] = []
  for (let n = 0; n < 6; n++) {
    await line.do(`slot ${n}`, 'add_message', { message: 'a' })
    waiting.push(await line.insert(`slot ${n}`, 'add_message', { message: 'b' }))
  }
  const other = await line.do('slot free', 'add_message', { message: 'a' })
  expect(other).toMatchObject({ status: 'completed', attempts: 1 })
  for (const id of waiting)
    expect(await line.end(id)).toMatchObject({ status: 'completed', failures: 0 })
})

test('messages that are apart, or that a run separates, wait for nothing and cost no further call', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  for (const text of ['a', 'b']) {
    const row = await line.do('apart', 'add_message_and_run', { message: text, ...who })
    expect(row.attempts).toBe(1)
  }
  await line.do('apart', 'add_message', { message: 'c' })
  await pool.query(
    `update threads set last_message_at = last_message_at - interval '3 seconds' where id = 'apart'`,
  )
  const row = await line.do('apart', 'add_message', { message: 'd' })
  expect(row.attempts).toBe(1)
  expect(line.sent('GET', messagesPath)).toEqual([])
  expect(line.sent('POST', messagesPath)).toHaveLength(4)
})

test('a message that the provider lists in the wrong place all the same is taken back and added again', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', { emulator: { faults: [tiedOrder] } })
  // The provider's clock stands still until the first message has been taken back.
  const stopped = Date.now()
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => stopped)
  const deleted = () => line.sent('DELETE', /\/messages\//)
  try {
    const threads = Array.from({ length: 12 }, (_, n) => `wrong ${n}`)
    const ids = await Promise.all(
      threads.map(async (thread) => {
        await line.insert(thread, 'add_message', { message: 'a' })
        return line.insert(thread, 'add_message', { message: 'b' })
      }),
    )
    await waitFor(() => deleted().length > 0, { message: 'a message is taken back' })
    clock.mockRestore()
    for (const id of ids) expect((await line.end(id)).status).toBe('completed')
    for (const thread of threads) expect(await listed(line, thread)).toEqual(['a', 'b'])
    await expectHealthy(pool)
  } finally {
    clock.mockRestore()
  }
})

test('a message whose removal is not heard of is removed before it is added again', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  await line.do('removed', 'add_message', { message: 'a' })
  loseFirstAnswer(line.relay, 'DELETE', /\/messages\//)
  const { provider_thread_id, last_item_id } = await line.thread('removed')
  const id = await line.insert('removed', 'add_message', { message: 'b' })
  await line.waiting(id, 'same_second')
  // As an attempt leaves it that has died between writing this down and the removal.
  const client = await pool.connect()
  await client.query(`begin; set local inturn.line = 'on'; set local inturn.actor = 'test'`)
  await client.query(
    `update thread_operations set progress = jsonb_build_object('misplaced', $2::text) where id = $1`,
    [id, last_item_id],
  )
  await client.query('commit')
  client.release()
  expect(await line.end(id)).toMatchObject({ status: 'completed', progress: { misplaced: null } })
  expect(line.emulator.history(provider_thread_id).map(({ text }) => text)).toEqual(['b'])
})

test('a clock that is set back keeps a message waiting for a second and no longer', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  await line.do('set back', 'add_message', { message: 'a' })
  await pool.query(
    `update threads set last_message_at = clock_timestamp() + interval '1 hour' where id = 'set back'`,
  )
  expect((await line.do('set back', 'add_message', { message: 'b' })).status).toBe('completed')
})

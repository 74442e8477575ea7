import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished } from 'vitest'
import { Inturn } from '../../src/index.ts'
import { Fleet } from '../recovery/fleet.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf } from './rows.ts'

const script = fileURLToPath(new URL('./getting-process.ts', import.meta.url))

/** What a process prints that gets the thread with these keys so many times. */
async function getIn(databaseUrl: string, keys: object, times: number): Promise<string[]> {
  const child = spawn(process.execPath, [script, databaseUrl, JSON.stringify(keys), `${times}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [printed] = await Promise.all([text(child.stdout), once(child, 'close')])
  return JSON.parse(printed)
}

test('a thousand get-or-creates of one key, by four processes, make one row and one conversation', async ({
  url,
  pool,
}) => {
  const fleet = await Fleet.start({ databaseUrl: url, pool })
  const keys = { user: '42', topic: 'billing' }
  const ids = await Promise.all(Array.from({ length: 4 }, () => getIn(url, keys, 250)))
  expect(ids).toEqual(Array.from({ length: 4 }, () => ['user:42:topic:billing']))
  await fleet.isOver(60_000)
  const { rows: threads } = await pool.query('select * from threads')
  expect(threads).toMatchObject([{ user_id: '42', session_id: null, topic: 'billing' }])
  const { rows: created } = await pool.query('select * from thread_generations')
  expect(created).toMatchObject([{ generation: 1 }])
  const made = fleet.emulator.requests().filter(({ kind }) => kind === 'conversations.create')
  expect(made).toHaveLength(1)
  expect(fleet.emulator.history(threads[0].provider_thread_id)).toHaveLength(1000)
}, 120_000)

test('the same keys give the same thread, from TypeScript and from SQL', async ({ url, pool }) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const thread = await inturn.thread({ user: 'a:b', session: '50%', labels: { team: 'red' } })
  const { rows } = await pool.query(
    `select * from get_thread(p_session_id => '50%', p_user_id => 'a:b', p_labels => '{"team": "blue"}')`,
  )
  expect(rows).toMatchObject([{ id: thread.id, user_id: 'a:b', labels: { team: 'red' } }])
  expect(thread.id).toBe('user:a%3Ab:session:50%25')
  expect(await thread.stats()).toMatchObject({
    thread_id: thread.id,
    state: 'idle',
    user_id: 'a:b',
    generation: 0,
    messages: 0,
    expires_at: null,
  })
})

test('what is no key is refused, and says what to write', async ({ url }) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const get = (keys: object) => errorOf(inturn.thread(keys as { user: string }))
  expect(await get({ user: 42 })).toMatchObject({
    code: 'thread_keys_invalid',
    message: 'user must be text, not the number 42',
    hint: "Write { user: '42' }, or leave it out.",
  })
  expect(await get({ topic: null })).toMatchObject({ code: 'thread_keys_invalid' })
  expect(await get({ userId: '42' })).toMatchObject({
    code: 'thread_keys_invalid',
    message: 'A thread has no key "userId"',
  })
  expect(await get({})).toMatchObject({ code: 'thread_has_a_key' })
  expect(await get({ user: '' })).toMatchObject({ code: 'thread_keys_have_1_to_255_characters' })
  expect(await errorOf(inturn.threads({ user: 42 } as never))).toMatchObject({
    code: 'thread_keys_invalid',
  })
})

test('in a transaction of the caller, the thread and its first operation come together or not at all', async ({
  url,
  pool,
  connected,
}) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const transaction = await connected()
  await transaction.query('begin')
  const thread = await inturn.thread({ user: '1' }, { transaction })
  await thread.addMessage('Hi', { transaction })
  const waiting = inturn.thread({ user: '1' })
  await waitFor(
    async () =>
      (
        await pool.query(
          `select from pg_stat_activity where wait_event_type = 'Lock' and query like '%get_thread%'`,
        )
      ).rowCount === 1,
    { message: 'somebody waits for the same row' },
  )
  await transaction.query('rollback')
  expect((await waiting).id).toBe('user:1')
  expect((await pool.query('select from thread_operations')).rowCount).toBe(0)

  await transaction.query('begin')
  await inturn.thread({ user: '2' }, { transaction })
  expect(await errorOf(inturn.thread({ user: '2' }))).toMatchObject({ code: 'row_locked' })
  await transaction.query('commit')
  expect((await inturn.thread({ user: '2' })).id).toBe('user:2')
})

test('threads are listed by key, label and state, page after page', async ({ url }) => {
  await using inturn = new Inturn({ databaseUrl: url })
  for (const session of ['a', 'b', 'c', 'd']) {
    const labels = { team: session < 'c' ? 'red' : 'blue', nr: { of: 4 } }
    const thread = await inturn.thread({ user: '42', session, labels })
    if (session > 'b') await thread.addMessage('Hi')
  }
  await inturn.thread({ user: '43', session: 'a' })
  const ids = async (...given: Parameters<Inturn['threads']>) =>
    (await inturn.threads(...given)).map(({ thread_id }) => thread_id)
  const of42 = ['a', 'b', 'c', 'd'].map((session) => `user:42:session:${session}`)
  expect(await ids()).toHaveLength(5)
  expect(await ids({ user: '42' })).toEqual(of42)
  expect(await ids({ user: '42', limit: 2 })).toEqual(of42.slice(0, 2))
  expect(await ids({ user: '42', limit: 2, after: of42[1] })).toEqual(of42.slice(2))
  expect(await ids({ session: 'a' })).toEqual(['user:42:session:a', 'user:43:session:a'])
  expect(await ids({ labels: { team: 'red' } })).toEqual(of42.slice(0, 2))
  expect(await ids({ labels: { team: 'red', nr: { of: 5 } } })).toEqual([])
  expect(await ids({ user: '42', state: 'active' })).toEqual(of42.slice(2))
  expect(await ids({ state: 'idle', limit: 2 })).toEqual(of42.slice(0, 2))
})

test('configure changes keys, labels and the policy of a thread, and its id stays', async ({
  url,
  pool,
}) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const thread = await inturn.thread({ user: '42', labels: { team: 'red', vip: true } })
  await thread.configure({ labels: { team: 'blue', vip: null, since: 2026 }, topic: 'billing' })
  const { rows } = await pool.query('select * from threads')
  expect(rows).toMatchObject([
    { id: 'user:42', user_id: '42', topic: 'billing', labels: { team: 'blue', since: 2026 } },
  ])
  expect(rows[0].labels).not.toHaveProperty('vip')
  await thread.configure({ user: null })
  expect((await inturn.thread({ user: '42' })).id).toBe('user:42')
  expect((await pool.query('select user_id from threads')).rows).toEqual([{ user_id: null }])
  await inturn.thread('by hand').configure({ labels: { a: null, b: 1 } })
  expect((await inturn.threads({ labels: { b: 1 } }))[0]).toMatchObject({ labels: { b: 1 } })

  const refused = (settings: object) => errorOf(thread.configure(settings))
  expect(await refused({ policy: 'none such' })).toMatchObject({ code: 'thread_policy_exists' })
  expect(await refused({ labels: ['red'] })).toMatchObject({ code: 'thread_labels_are_an_object' })
  expect(await refused({ user: '' })).toMatchObject({
    code: 'thread_keys_have_1_to_255_characters',
  })
})

test('provider threads are adopted, many at once, each asked for once', async ({ url, pool }) => {
  await using inturn = new Inturn({ databaseUrl: url })
  const fleet = await Fleet.start({ databaseUrl: url, pool })
  const { made } = await makeElsewhere(fleet.emulator.url)
  const operations = await inturn.adopt([...made, made[0] as string], { user: '42' })
  expect(operations.map(({ threadId }) => threadId)).toEqual(made)
  for (const operation of operations)
    expect(await operation.result({ timeoutMs: 10_000 })).toMatchObject({
      provider_thread_id: operation.threadId,
    })
  expect(await inturn.adopt(made)).toEqual([])
  expect(await inturn.threads({ user: '42' })).toMatchObject(
    made.toSorted().map((id) => ({ thread_id: id, provider_thread_id: id, generation: 1 })),
  )
  const refused = (...given: Parameters<Inturn['adopt']>) => errorOf(inturn.adopt(...given))
  expect(await refused(['mine'])).toMatchObject({
    code: 'provider_thread_id_is_one',
    message: "'mine' is no id of a provider thread",
  })
  expect(await refused(made, { provider: 'assistants' })).toMatchObject({
    code: 'provider_thread_id_is_one',
    message: expect.stringMatching(/'conv_.*' is no id of a provider thread of assistants/),
  })
  expect(await refused(made, { provider: 'others' as never })).toMatchObject({
    code: 'thread_provider_is_known',
  })
})

/** Conversations that did not come from an operation. */
async function makeElsewhere(emulatorUrl: string): Promise<{ made: string[] }> {
  const made: string[] = []
  for (const path of ['conversations', 'conversations', 'threads']) {
    const response = await fetch(`${emulatorUrl}/${path}`, {
      method: 'POST',
      headers: {
        authorization: 'Bearer any',
        'content-type': 'application/json',
        'openai-beta': 'assistants=v2',
      },
      body: '{}',
    })
    made.push(((await response.json()) as { id: string }).id)
  }
  return { made }
}

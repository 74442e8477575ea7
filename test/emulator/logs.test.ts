import OpenAI from 'openai'
import { expect, test } from 'vitest'
import { emulated, heldModel, own, raw, refusal } from './emulated.ts'

const hello = { role: 'user' as const, content: 'hello' }
const assistant = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }
const tagged = { metadata: { inturn_operation: '7' } }

test('the requests of one key since a moment can be asked for, and show no key', async () => {
  const { client, emulator } = await emulated()
  const other = new OpenAI({ apiKey: 'sk-other', baseURL: emulator.url, maxRetries: 0 })
  const { id } = await client.beta.threads.create()
  await other.beta.threads.messages.create(id, hello)
  await expect.poll(() => Date.now()).toBeGreaterThan(emulator.requests().at(-1)?.at.getTime() ?? 0)
  const since = new Date()
  await other.beta.threads.messages.list(id)
  await client.beta.threads.retrieve(id)

  expect(emulator.requests({ key: 'any' }).map(({ kind }) => kind)).toEqual([
    'threads.create',
    'threads.retrieve',
  ])
  const [asked, ...more] = emulator.requests({ key: 'sk-other', since })
  expect(more).toEqual([])
  expect(asked).toMatchObject({
    method: 'GET',
    path: `/v1/threads/${id}/messages`,
    kind: 'messages.list',
    threadId: id,
    answer: 'ok',
    status: 200,
    code: null,
  })
  expect(asked?.key).toMatch(/^[0-9a-f]{12}$/)
  expect(emulator.requests({ key: asked?.key ?? '' })).toHaveLength(2)
  expect(emulator.requests({ thread: id, kind: 'threads.retrieve' })).toHaveLength(1)
})

test('a request tells how it was answered: refused, cut, or not yet', async () => {
  const held = heldModel()
  const { client, emulator } = await emulated({ model: held.model })
  await refusal(client.conversations.retrieve('conv_none'))
  await raw(emulator, 'GET', '/nowhere')
  emulator.setFaults([{ name: 'insufficient_quota', on: 'conversations', times: 1 }])
  await refusal(client.conversations.create())
  emulator.setFaults([{ name: 'reset_after_commit', on: 'conversations', times: 1 }])
  await client.conversations.create().catch(() => {})
  const pending = client.responses.create({ model: 'gpt-5', input: 'hi' })
  await held.asked
  const answers = () =>
    emulator.requests().map(({ kind, answer, status, code }) => [kind, answer, status, code])
  expect(answers()).toEqual([
    ['conversations.retrieve', 'refused', 404, null],
    [null, 'refused', 404, null],
    ['conversations.create', 'refused', 429, 'insufficient_quota'],
    ['conversations.create', 'cut', null, null],
    ['responses.create', 'open', null, null],
  ])
  held.answer('at last')
  await pending
  expect(answers().at(-1)).toEqual(['responses.create', 'ok', 200, null])
})

test('every run is listed with its tag, its end and who started it', async () => {
  const { client, emulator } = await emulated({
    failRun: ({ metadata }) =>
      metadata.fails ? { code: 'server_error', message: 'no' } : undefined,
  })
  const { id } = await client.beta.threads.create({ messages: [hello] })
  await client.beta.threads.runs.createAndPoll(id, { ...assistant, ...tagged })
  const foreign = emulator.foreignRun(id, { ms: 0 })
  await expect.poll(() => emulator.runs(id).at(-1)?.endedAt).toBeInstanceOf(Date)
  const { id: conversation } = await client.conversations.create()
  const failing = { conversation, metadata: { fails: 'yes' } }
  await client.responses.create({ model: 'gpt-5', input: 'hi', ...failing })

  expect(emulator.runs(id)).toMatchObject([
    { threadId: id, status: 'completed', foreign: false, ...tagged, startedAt: expect.any(Date) },
    { id: foreign, threadId: id, status: 'completed', foreign: true, metadata: {} },
  ])
  expect(emulator.runs(conversation)).toMatchObject([
    { id: expect.stringMatching(/^resp_/), status: 'failed', metadata: { fails: 'yes' } },
  ])
  expect(emulator.runs().map(({ threadId }) => threadId)).toEqual([id, id, conversation])
  expect(emulator.stats).toMatchObject({ runsStarted: 2, foreignRunsStarted: 1 })
})

test('a run that is still active has no end, and is listed although its thread is deleted', async () => {
  const { client, emulator } = await emulated({ model: heldModel().model })
  const { id } = await client.beta.threads.create({ messages: [hello] })
  await client.beta.threads.runs.create(id, assistant)
  expect(emulator.runs(id)).toMatchObject([{ endedAt: null }])
  await client.beta.threads.delete(id)
  expect(emulator.runs(id)).toMatchObject([{ endedAt: expect.any(Date) }])
})

test('a conflict tells which run held the lock, and whether its own request was sent again', async () => {
  const { client, emulator } = await emulated({ model: heldModel().model })
  const { id: conversation } = await client.conversations.create()
  const create = { model: 'gpt-5', input: 'hi', background: true, conversation }
  const { id: runId } = await client.responses.create({ ...create, ...tagged })
  await refusal(client.responses.create({ ...create, ...tagged }))
  await refusal(client.responses.create({ ...create, metadata: { inturn_operation: '8' } }))
  await refusal(client.responses.create(create))
  const nothing = { type: 'item_reference' as const, id: 'msg_none' }
  await refusal(client.responses.create({ ...create, input: [nothing] }))

  const { id: thread } = await client.beta.threads.create()
  const foreign = emulator.foreignRun(thread, { ms: 60_000 })
  await refusal(client.beta.threads.messages.create(thread, hello))

  const locked = { kind: 'conversation_locked', cause: 'own_run', threadId: conversation, runId }
  expect(emulator.conflicts()).toMatchObject([
    { ...locked, resent: true, at: expect.any(Date) },
    { ...locked, resent: false, probe: false },
    { ...locked, resent: false },
    { ...locked, resent: false, probe: true },
    { kind: 'message_conflict', cause: 'foreign_run', threadId: thread, runId: foreign },
  ])
  expect(emulator.stats.conflictsByCause).toEqual({ own_run: 4, foreign_run: 1, lingering_lock: 0 })
})

test('requests, runs and conflicts are there for other processes too', async () => {
  const { client, emulator } = await emulated({ model: heldModel().model })
  const { id: conversation } = await client.conversations.create()
  const create = { model: 'gpt-5', input: 'hi', background: true, conversation }
  await client.responses.create(create)
  await refusal(client.responses.create(create))
  const read = async (path: string) => (await own(emulator, 'GET', `/emulator/${path}`)).body
  const sent = (value: unknown) => JSON.parse(JSON.stringify(value))

  expect(await read('conflicts')).toEqual(sent(emulator.conflicts()))
  expect(await read(`runs?thread=${conversation}`)).toEqual(sent(emulator.runs(conversation)))
  expect(await read('runs?thread=conv_none')).toEqual([])
  expect(await read('requests')).toEqual(sent(emulator.requests()))
  expect(await read('requests?key=any&kind=responses.create')).toHaveLength(2)
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString()
  expect(await read(`requests?since=${tomorrow}`)).toEqual([])
})

test('a question that cannot be understood is refused with what to write', async () => {
  const { emulator } = await emulated()
  const refused = async (query: string) => {
    const { status, body } = await own(emulator, 'GET', `/emulator/${query}`)
    expect(status).toBe(400)
    return body.error.message
  }
  expect(await refused('requests?since=noon')).toBe(
    'since: write a time like 2026-01-31T12:00:00.000Z',
  )
  expect(await refused('requests?kind=runs')).toBe(
    'kind: write the name of a route kind, such as runs.create',
  )
  expect(await refused('runs?thred=x')).toBe('thred: there is no such setting: write thread')
})

import type OpenAI from 'openai'
import { expect, test } from 'vitest'
import { emulated, heldModel, refusal } from './emulated.ts'

const assistant = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }
const background = { model: 'gpt-5', input: 'reply with exactly: done', background: true } as const

async function started(client: OpenAI) {
  const { id: thread_id } = await client.beta.threads.create({
    messages: [{ role: 'user', content: 'reply with exactly: done' }],
  })
  const { id } = await client.beta.threads.runs.create(thread_id, assistant)
  const run = () => client.beta.threads.runs.retrieve(id, { thread_id })
  const status = async () => (await run()).status
  const cancel = () => client.beta.threads.runs.cancel(id, { thread_id })
  return { thread_id, id, run, status, cancel }
}

test.each([
  ['stuck_queued', 'queued'],
  ['stuck_in_progress', 'in_progress'],
] as const)('%s: a run stays %s until the plan is replaced', async (name, stuck) => {
  const { emulator, client } = await emulated({ faults: [{ name }] })
  const { status } = await started(client)
  const { id } = await client.responses.create(background)
  const response = async () => (await client.responses.retrieve(id)).status
  await expect.poll(status).toBe(stuck)
  await expect.poll(response).toBe(stuck)
  // Other requests of its kind have come and gone meanwhile.
  expect([await status(), await response()]).toEqual([stuck, stuck])
  emulator.setFaults([])
  await expect.poll(status).toBe('completed')
  await expect.poll(response).toBe('completed')
  expect(emulator.stats.faults).toEqual({ [name]: 2 })
})

test('a run that is stuck for a time goes on afterwards', async () => {
  const { client } = await emulated({ faults: [{ name: 'stuck_queued', ms: 1000 }] })
  const { status } = await started(client)
  expect(await status()).toBe('queued')
  await expect.poll(status, { timeout: 10_000 }).toBe('completed')
})

test('a stuck run can be cancelled, and expires in its time', async () => {
  const { client } = await emulated({
    runExpiresMs: 1000,
    faults: [{ name: 'stuck_in_progress' }],
  })
  const one = await started(client)
  await one.cancel()
  await expect.poll(one.status).toBe('cancelled')
  const other = await started(client)
  await expect.poll(other.status, { timeout: 10_000 }).toBe('expired')
})

test('a run stays cancelling until it is released, and locks its thread', async () => {
  const { emulator, client } = await emulated({
    model: heldModel().model,
    faults: [{ name: 'stuck_cancelling' }],
  })
  const { thread_id, status, cancel } = await started(client)
  await cancel()
  const say = () => client.beta.threads.messages.create(thread_id, { role: 'user', content: 'hi' })
  expect((await refusal(say())).message).toContain('is active')
  expect(await status()).toBe('cancelling')
  emulator.setFaults([])
  await expect.poll(status).toBe('cancelled')
  await say()
})

test('a run expires without having answered and frees its thread', async () => {
  const { emulator, client } = await emulated({ faults: [{ name: 'run_expires', times: 1 }] })
  const { thread_id, status } = await started(client)
  await expect.poll(status).toBe('expired')
  expect(emulator.history(thread_id).map(({ role }) => role)).toEqual(['user'])
  const next = await client.beta.threads.runs.createAndPoll(thread_id, assistant, {
    pollIntervalMs: 5,
  })
  expect(next.status).toBe('completed')
})

test.each(['server_error', 'rate_limit_exceeded', 'invalid_prompt'] as const)(
  'a run and a response end failed with %s',
  async (code) => {
    const { client } = await emulated({ faults: [{ name: 'run_fails', code }] })
    const { run } = await started(client)
    await expect.poll(run).toMatchObject({ status: 'failed', last_error: { code } })
    const response = await client.responses.create({ model: 'gpt-5', input: 'hi' })
    expect(response).toMatchObject({ status: 'failed', error: { code } })
  },
)

test('a run fault can be kept to runs started in one way', async () => {
  const { client } = await emulated({ faults: [{ name: 'run_fails', on: 'responses.create' }] })
  const { status } = await started(client)
  await expect.poll(status).toBe('completed')
  const response = await client.responses.create({ model: 'gpt-5', input: 'hi' })
  expect(response.status).toBe('failed')
})

test('a cancel that comes too late: the run shows cancelling and ends completed', async () => {
  const { model, answer } = heldModel()
  const { emulator, client } = await emulated({ model, faults: [{ name: 'cancel_completes' }] })
  const { thread_id, status, cancel } = await started(client)
  expect((await cancel()).status).toBe('cancelling')
  expect(await status()).toBe('cancelling')
  answer('too late')
  await expect.poll(status).toBe('completed')
  expect(emulator.history(thread_id).at(-1)?.text).toBe('too late')
})

test('a run that would wait for tool outputs is cancelled even so', async () => {
  const call = Promise.withResolvers<{ toolCalls: [{ name: string; arguments: string }] }>()
  const { client } = await emulated({
    model: () => call.promise,
    faults: [{ name: 'cancel_completes' }],
  })
  const { status, cancel } = await started(client)
  await cancel()
  call.resolve({ toolCalls: [{ name: 'look_up', arguments: '{}' }] })
  await expect.poll(status).toBe('cancelled')
})

test.each(['in_progress', 'cancelled'] as const)(
  'a cancelled response that shows %s and completes nevertheless',
  async (shows) => {
    const { model, asked, answer } = heldModel()
    const { emulator, client } = await emulated({
      model,
      faults: [{ name: 'cancel_completes', shows }],
    })
    const { id: conversation } = await client.conversations.create()
    const { id } = await client.responses.create({ ...background, conversation })
    await asked
    expect((await client.responses.cancel(id)).status).toBe(shows)
    expect((await client.responses.retrieve(id)).status).toBe(shows)
    const second = client.responses.create({ ...background, conversation })
    expect((await refusal(second)).code).toBe('conversation_locked')
    answer('too late')
    await expect
      .poll(() => client.responses.retrieve(id))
      .toMatchObject({ status: 'completed', output_text: 'too late' })
    expect(emulator.history(conversation).map(({ text }) => text)).toEqual([
      background.input,
      'too late',
    ])
  },
)

import { expect, test } from 'vitest'
import { emulated, heldModel, own, refusal } from './emulated.ts'

const soon = { timeout: 10_000 }
const hello = { role: 'user' as const, content: 'hello' }
const assistant = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }
const ask = { model: 'gpt-5', input: 'reply with exactly: done' } as const

test('a foreign run holds its thread, and the conflicts it causes are counted apart', async () => {
  const { emulator, client } = await emulated({ anyAssistant: false })
  const { id } = await client.beta.threads.create({ messages: [hello] })
  const runId = emulator.foreignRun(id, { ms: 1000 })
  const say = () => client.beta.threads.messages.create(id, hello)
  expect((await refusal(say())).message).toContain(`while a run ${runId} is active`)
  const made = await client.beta.assistants.create({ model: 'gpt-4o' })
  const second = client.beta.threads.runs.create(id, { assistant_id: made.id })
  expect((await refusal(second)).message).toContain(`already has an active run ${runId}.`)
  await expect
    .poll(
      async () => (await client.beta.threads.runs.retrieve(runId, { thread_id: id })).status,
      soon,
    )
    .toBe('completed')
  await say()
  expect(emulator.stats).toMatchObject({
    conflicts: 2,
    conflictsByKind: { run_conflict: 1, message_conflict: 1 },
    conflictsByCause: { own_run: 0, foreign_run: 2, lingering_lock: 0 },
    runsStarted: 0,
    foreignRunsStarted: 1,
  })
  expect(emulator.history(id).map(({ text, runId }) => ({ text, runId }))).toEqual([
    { text: 'hello', runId: null },
    { text: 'A foreign run was here.', runId },
    { text: 'hello', runId: null },
  ])
})

test('a foreign response holds its conversation, and may say something first', async () => {
  const { emulator, client } = await emulated()
  const { id: conversation } = await client.conversations.create()
  const runId = emulator.foreignRun(conversation, { ms: 1000, message: 'An outsider.' })
  expect((await refusal(client.responses.create({ ...ask, conversation }))).code).toBe(
    'conversation_locked',
  )
  await expect.poll(() => emulator.history(conversation), soon).toHaveLength(2)
  expect(emulator.history(conversation)).toMatchObject([
    { text: 'An outsider.', runId },
    { text: 'A foreign run was here.', runId },
  ])
  expect(emulator.stats.conflictsByCause).toEqual({ own_run: 0, foreign_run: 1, lingering_lock: 0 })
})

test("a run's own conflicts stay what they are, and no fault of the plan strikes an outsider", async () => {
  const { emulator, client } = await emulated({ faults: [{ name: 'run_fails' }] })
  const { id } = await client.beta.threads.create({ messages: [hello] })
  const runId = emulator.foreignRun(id, { ms: 0 })
  await expect
    .poll(async () => (await client.beta.threads.runs.retrieve(runId, { thread_id: id })).status)
    .toBe('completed')
  emulator.setFaults([{ name: 'stuck_queued' }])
  await client.beta.threads.runs.create(id, assistant)
  await refusal(client.beta.threads.messages.create(id, hello))
  expect(emulator.stats.conflictsByCause).toEqual({ own_run: 1, foreign_run: 0, lingering_lock: 0 })
})

test('an outsider is refused like anybody else, without being counted as a conflict', async () => {
  const { emulator, client } = await emulated({ model: heldModel().model })
  const { id } = await client.beta.threads.create({ messages: [hello] })
  await client.beta.threads.runs.create(id, assistant)
  expect(() => emulator.foreignRun(id)).toThrow(/already has an active run/)
  const refused = await own(emulator, 'POST', `/emulator/threads/${id}/foreign-run`, { ms: 5 })
  expect(refused.status).toBe(400)
  expect(emulator.stats.conflicts).toBe(0)
  expect(() => emulator.foreignRun('thread_none')).toThrow(/not found/)
  expect(() => emulator.foreignRun(id, { ms: -1 })).toThrow('ms: write milliseconds')
})

test('a foreign run can be started over HTTP', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create({ messages: [hello] })
  const path = `/emulator/threads/${id}/foreign-run`
  const wrong = await own(emulator, 'POST', path, { ms: 'long', milliseconds: 5 })
  expect(wrong.status).toBe(400)
  expect(wrong.body.error.message.split('\n')).toEqual([
    'ms: write milliseconds, a whole number from 0 to 3600000',
    'milliseconds: there is no such setting: write ms, message',
  ])
  const { status, body } = await own(emulator, 'POST', path, { ms: 0 })
  expect(status).toBe(200)
  await expect.poll(() => emulator.history(id).at(-1)?.runId).toBe(body.id)
  expect((await own(emulator, 'POST', '/emulator/threads/conv_none/foreign-run')).status).toBe(404)
})

test('a lock can outlive its response, and what it refuses is counted apart', async () => {
  const { emulator, client } = await emulated({ faults: [{ name: 'lock_lingers', ms: 1000 }] })
  const { id: conversation } = await client.conversations.create()
  const { status } = await client.responses.create({ ...ask, conversation })
  expect(status).toBe('completed')
  const again = () => client.responses.create({ ...ask, conversation })
  expect((await refusal(again())).code).toBe('conversation_locked')
  await expect.poll(() => again().catch(() => null), soon).toMatchObject({ status: 'completed' })
  const { conflicts, conflictsByCause } = emulator.stats
  expect(conflictsByCause).toEqual({ own_run: 0, foreign_run: 0, lingering_lock: conflicts })
})

test('the input of failed and cancelled responses stays only when the plan says so', async () => {
  const { emulator, client } = await emulated({ model: heldModel().model })
  const { id: conversation } = await client.conversations.create()
  const background = { ...ask, conversation, background: true }
  const cancelled = async () => {
    const { id } = await client.responses.create(background)
    await client.responses.cancel(id)
    return emulator.history(conversation).length
  }
  expect(await cancelled()).toBe(0)
  emulator.setFaults([{ name: 'failed_input_stays' }])
  expect(await cancelled()).toBe(1)
  emulator.setFaults([{ name: 'run_fails' }, { name: 'failed_input_stays' }])
  expect((await client.responses.create({ ...ask, conversation })).status).toBe('failed')
  expect(emulator.history(conversation).map(({ text }) => text)).toEqual([ask.input, ask.input])
})

import { expect, test } from 'vitest'
import { emulated } from './emulated.ts'

const assistant = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }
const clock = { type: 'function' as const, function: { name: 'read_clock' } }

async function eventsOf(stream: AsyncIterable<{ event: string }>): Promise<string[]> {
  const events: string[] = []
  for await (const { event } of stream) if (event !== events.at(-1)) events.push(event)
  return events
}

const answerEvents = [
  'thread.run.in_progress',
  'thread.run.step.created',
  'thread.run.step.in_progress',
  'thread.message.created',
  'thread.message.in_progress',
  'thread.message.delta',
  'thread.message.completed',
  'thread.run.step.completed',
  'thread.run.completed',
]

test('a streamed run tells its life in order and its text in deltas', async () => {
  const { client } = await emulated()
  const { id } = await client.beta.threads.create()
  const stream = client.beta.threads.runs.stream(id, {
    ...assistant,
    additional_messages: [{ role: 'user', content: 'reply with exactly: one two' }],
  })
  const deltas: string[] = []
  stream.on('textDelta', ({ value }) => deltas.push(value ?? ''))
  expect(await eventsOf(stream)).toEqual([
    'thread.run.created',
    'thread.run.queued',
    ...answerEvents,
  ])
  expect(deltas).toEqual(['one', ' two'])
})

test('a stream closes when the run waits for outputs, and another goes on with them', async () => {
  const { client } = await emulated()
  const first = client.beta.threads.createAndRunStream({
    ...assistant,
    tools: [clock],
    thread: { messages: [{ role: 'user', content: 'Call read_clock.' }] },
  })
  expect(await eventsOf(first)).toEqual([
    'thread.created',
    'thread.run.created',
    'thread.run.queued',
    'thread.run.in_progress',
    'thread.run.step.created',
    'thread.run.step.in_progress',
    'thread.run.step.delta',
    'thread.run.requires_action',
  ])
  const run = first.currentRun()
  if (!run) throw new Error('the stream told of no run')
  const calls = run.required_action?.submit_tool_outputs.tool_calls ?? []
  const second = client.beta.threads.runs.submitToolOutputsStream(run.id, {
    thread_id: run.thread_id,
    tool_outputs: calls.map(({ id }) => ({ tool_call_id: id, output: 'noon' })),
  })
  expect(await eventsOf(second)).toEqual([
    'thread.run.step.completed',
    'thread.run.queued',
    ...answerEvents,
  ])
})

test('the last event on the wire is done', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create({
    messages: [{ role: 'user', content: 'hello' }],
  })
  const response = await fetch(`${emulator.url}/threads/${id}/runs`, {
    method: 'POST',
    headers: { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' },
    body: JSON.stringify({ ...assistant, stream: true }),
  })
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
  expect(await response.text()).toMatch(/\n\nevent: done\ndata: \[DONE\]\n\n$/)
})

test('a run goes on when the reader of its stream leaves', async () => {
  const { emulator, client } = await emulated({
    latency: { queuedMs: 20, thinkMs: 0, perTokenMs: 0 },
  })
  const { id } = await client.beta.threads.create({
    messages: [{ role: 'user', content: 'reply with exactly: still here' }],
  })
  for await (const _ of await client.beta.threads.runs.create(id, { ...assistant, stream: true }))
    break
  await expect.poll(() => emulator.history(id).at(-1)?.text).toBe('still here')
})

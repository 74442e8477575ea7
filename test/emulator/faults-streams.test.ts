import { expect, test } from 'vitest'
import { emulated, heldModel, refusal } from './emulated.ts'
import { collect } from './events.ts'

const story = {
  model: 'gpt-5',
  input: 'reply with exactly: once upon a time',
  background: true,
  stream: true,
} as const

/** What arrives of a stream, and whether it broke. */
async function read<E>(
  stream: Promise<AsyncIterable<E>>,
): Promise<{ events: E[]; broken: boolean }> {
  const events: E[] = []
  try {
    for await (const event of await stream) events.push(event)
    return { events, broken: false }
  } catch {
    return { events, broken: true }
  }
}

test.each([0, 1, 4])('a stream breaks before its event %i, and can be resumed', async (event) => {
  const { client, emulator } = await emulated({
    faults: [{ name: 'stream_cut', on: 'responses.create', event }],
  })
  const { id: conversation } = await client.conversations.create()
  const { events, broken } = await read(client.responses.create({ ...story, conversation }))
  expect(broken).toBe(true)
  expect(events.map(({ sequence_number }) => sequence_number)).toEqual([...Array(event).keys()])
  await expect.poll(() => emulator.history(conversation)).toHaveLength(2)
  expect(emulator.stats.faults).toEqual({ stream_cut: 1 })

  const first = events[0]
  if (first?.type !== 'response.created') return expect(event).toBe(0)
  const { id } = first.response
  const resumed = await client.responses.retrieve(id, { stream: true, starting_after: event - 1 })
  const rest = await collect(resumed)
  expect(rest[0]?.sequence_number).toBe(event)
  expect(rest.at(-1)?.type).toBe('response.completed')
})

test('a resumed stream can break too', async () => {
  const { client } = await emulated({
    faults: [{ name: 'stream_cut', on: 'responses.retrieve', event: 2, times: 1 }],
  })
  const whole = await collect(await client.responses.create(story))
  const id = whole[0]?.type === 'response.created' ? whole[0].response.id : ''
  const resume = () => client.responses.retrieve(id, { stream: true, starting_after: 1 })
  const { events, broken } = await read(resume())
  expect({ numbers: events.map((one) => one.sequence_number), broken }).toEqual({
    numbers: [2, 3],
    broken: true,
  })
  expect(await collect(await resume())).toEqual(whole.slice(2))
})

test('a stream can end as if it were complete', async () => {
  const { client } = await emulated({
    faults: [{ name: 'stream_cut', event: 3, silently: true }],
  })
  const { events, broken } = await read(client.responses.create(story))
  expect({ count: events.length, broken }).toEqual({ count: 3, broken: false })
})

test('a stream that has fewer events is left whole', async () => {
  const { client } = await emulated({ faults: [{ name: 'stream_cut', event: 1000 }] })
  const { events, broken } = await read(client.responses.create(story))
  expect({ last: events.at(-1)?.type, broken }).toEqual({
    last: 'response.completed',
    broken: false,
  })
})

test('the stream of a run breaks and the run goes on', async () => {
  const { client, emulator } = await emulated({ faults: [{ name: 'stream_cut', event: 2 }] })
  const { id } = await client.beta.threads.create({
    messages: [{ role: 'user', content: 'reply with exactly: still here' }],
  })
  const { events, broken } = await read(
    client.beta.threads.runs.create(id, { assistant_id: 'asst_1', stream: true }),
  )
  expect({ events: events.map(({ event }) => event), broken }).toEqual({
    events: ['thread.run.created', 'thread.run.queued'],
    broken: true,
  })
  await expect.poll(() => emulator.history(id).at(-1)?.text).toBe('still here')
})

test('requests without a stream are not counted as cut', async () => {
  const { client, emulator } = await emulated({ faults: [{ name: 'stream_cut' }] })
  await client.responses.create({ model: 'gpt-5', input: 'hi' })
  expect(emulator.stats.faults).toEqual({})
})

test('where the replay is gone, the response itself can still be read', async () => {
  const { model, answer } = heldModel()
  const { client } = await emulated({
    model,
    faults: [{ name: 'stream_cut', event: 1 }, { name: 'replay_gone' }],
  })
  const { events } = await read(client.responses.create(story))
  const id = events[0]?.type === 'response.created' ? events[0].response.id : ''
  const resumed = client.responses.retrieve(id, { stream: true, starting_after: 0 })
  expect(await refusal(resumed)).toMatchObject({ status: 400, param: 'stream' })
  answer('there')
  await expect.poll(() => client.responses.retrieve(id)).toMatchObject({ output_text: 'there' })
})

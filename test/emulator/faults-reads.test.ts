import { expect, test } from 'vitest'
import { checkFaults } from '../../src/emulator/faults/check.ts'
import { FaultPlan } from '../../src/emulator/faults/plan.ts'
import { waitFor } from '../support/wait-for.ts'
import { emulated, refusal } from './emulated.ts'

const hello = { role: 'user' as const, content: 'hello' }
const item = (content: string) => ({ type: 'message' as const, role: 'user' as const, content })

test('a new message is in no list at first; writes see it all the same', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.beta.threads.create()
  const first = await client.beta.threads.messages.create(id, hello)
  emulator.setFaults([{ name: 'read_lag', on: 'messages.list', ms: 60_000 }])
  const second = await client.beta.threads.messages.create(id, hello)
  const listed = async () => (await client.beta.threads.messages.list(id)).data.map((one) => one.id)
  expect(await listed()).toEqual([first.id])
  await client.beta.threads.messages.retrieve(second.id, { thread_id: id })
  await client.beta.threads.messages.update(second.id, { thread_id: id, metadata: { op: '1' } })
  expect(emulator.history(id)).toHaveLength(2)
  emulator.setFaults([])
  expect(await listed()).toEqual([second.id, first.id])
})

test('what a list does not show yet is a valid cursor, and does not fill pages', async () => {
  const { emulator, client } = await emulated()
  const { id } = await client.conversations.create()
  const add = async (text: string) =>
    (await client.conversations.items.create(id, { items: [item(text)] })).data[0]?.id ?? ''
  await add('one')
  emulator.setFaults([{ name: 'read_lag', on: 'items.list', ms: 60_000, times: 1 }])
  const hidden = await add('two')
  const third = await add('three')
  const page = await client.conversations.items.list(id, { order: 'asc', limit: 2 })
  expect(page.data.map((one) => one.id)).toHaveLength(2)
  expect(page.data.at(-1)?.id).toBe(third)
  const after = await client.conversations.items.list(id, { order: 'asc', after: hidden })
  expect(after.data.map((one) => one.id)).toEqual([third])
})

test('a response that is known is not found until its lag is over', async () => {
  const { client } = await emulated({ faults: [{ name: 'read_lag', ms: 1000 }] })
  const { id } = await client.responses.create({ model: 'gpt-5', input: 'hi' })
  const missing = await refusal(client.responses.retrieve(id))
  expect(missing.message).toBe(`404 Response with id '${id}' not found.`)
  await expect
    .poll(() => client.responses.retrieve(id).catch(() => null), { timeout: 10_000 })
    .toMatchObject({ id, status: 'completed' })
})

test('items appear late in the list of a conversation, after their response is over', async () => {
  const { emulator, client } = await emulated()
  const { id: conversation } = await client.conversations.create()
  emulator.setFaults([{ name: 'read_lag', on: 'list', ms: 1000 }])
  await client.responses.create({ model: 'gpt-5', conversation, input: 'hi' })
  const count = async () => (await client.conversations.items.list(conversation)).data.length
  expect(emulator.history(conversation)).toHaveLength(2)
  expect(await count()).toBe(0)
  await expect.poll(count, { timeout: 10_000 }).toBe(2)
})

test('threads, runs, conversations, messages and items can all be not found at first', async () => {
  const { emulator, client } = await emulated({ faults: [{ name: 'read_lag', ms: 60_000 }] })
  const { id: thread_id } = await client.beta.threads.create()
  const message = await client.beta.threads.messages.create(thread_id, hello)
  const run = await client.beta.threads.runs.create(thread_id, { assistant_id: 'asst_1' })
  const { id: conversation_id } = await client.conversations.create()
  const items = await client.conversations.items.create(conversation_id, { items: [item('hi')] })
  const itemId = items.data[0]?.id ?? ''
  const reads = () => [
    client.beta.threads.retrieve(thread_id),
    client.beta.threads.messages.retrieve(message.id, { thread_id }),
    client.beta.threads.runs.retrieve(run.id, { thread_id }),
    client.conversations.retrieve(conversation_id),
    client.conversations.items.retrieve(itemId, { conversation_id }),
  ]
  for (const read of reads()) expect((await refusal(read)).status).toBe(404)
  expect((await client.beta.threads.runs.list(thread_id)).data).toEqual([])
  emulator.setFaults([])
  await Promise.all(reads())
  expect((await client.beta.threads.runs.list(thread_id)).data).toHaveLength(1)
})

test('items that were written together show together', async () => {
  const { client } = await emulated({
    faults: [{ name: 'read_lag', on: 'items.list', ms: 400, atLeastMs: 0 }],
  })
  const { id } = await client.conversations.create()
  const counts = new Set<number>()
  for (let round = 0; round < 5; round++) {
    const items = Array.from({ length: 4 }, (_, n) => item(`${round}/${n}`))
    await client.conversations.items.create(id, { items })
    const seen = async () => {
      const { data } = await client.conversations.items.list(id, { limit: 100 })
      counts.add(data.length % 4)
      return data.length === 4 * (round + 1)
    }
    await waitFor(seen)
  }
  expect([...counts]).toEqual([0])
})

test('each object draws its own lag between the shortest and the longest', () => {
  const faults = checkFaults([{ name: 'read_lag', atLeastMs: 1000, ms: 33_000, probability: 0.5 }])
  const draw = (seed: number) => {
    const plan = new FaultPlan(faults, seed)
    return Array.from({ length: 100 }, () => plan.hide(['items.list'], null)[0]?.ms ?? 0)
  }
  const lags = draw(1)
  const hidden = lags.filter((ms) => ms > 0)
  expect(Math.min(...hidden)).toBeGreaterThanOrEqual(1000)
  expect(Math.max(...hidden)).toBeLessThan(33_000)
  expect(new Set(hidden).size).toBe(hidden.length)
  expect(hidden.length).toBeGreaterThan(20)
  expect(hidden.length).toBeLessThan(80)
  expect(draw(1)).toEqual(lags)
})

test('messages of one second can be listed in any order, each time the same', async () => {
  const { client, emulator } = await emulated()
  const { id } = await client.beta.threads.create()
  for (let i = 0; i < 12; i++)
    await client.beta.threads.messages.create(id, { role: 'user', content: String(i) })
  const listed = async () => {
    const ids: string[] = []
    for await (const { id: one } of client.beta.threads.messages.list(id, {
      order: 'asc',
      limit: 5,
    }))
      ids.push(one)
    return ids
  }
  const said = emulator.history(id).map((message) => message.id)
  expect(await listed()).toEqual(said)
  emulator.setFaults([{ name: 'tied_order' }])
  const tied = await listed()
  expect(tied).not.toEqual(said)
  expect(tied.toSorted()).toEqual(said.toSorted())
  expect(await listed()).toEqual(tied)
})

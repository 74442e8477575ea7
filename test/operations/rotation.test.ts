import { describe, expect } from 'vitest'
import { z } from 'zod'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { defineTools, tool } from '../../src/model/tool.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'
import {
  copied,
  copiesPath,
  generations,
  history,
  providerThreads,
  spoken,
  turn,
} from './copies.ts'
import { type Line, loseFirstAnswer, startLine, who } from './line.ts'

const call = () => ({ signal: AbortSignal.timeout(5_000), timeoutMs: 5_000 })

const metadataOf = async (line: Line, name: ProviderName, id: string) =>
  (await line.providers[name]?.retrieveThread(id, call()))?.metadata

/** A thread with two turns, and its provider thread. */
async function begin(line: Line, thread: string): Promise<string> {
  await line.do(thread, 'create_thread', { metadata: { team: 'red' } })
  await line.do(thread, 'add_message_and_run', turn('one'))
  await line.do(thread, 'add_message_and_run', turn('two'))
  return (await line.thread(thread)).provider_thread_id
}

describe.each(providerNames)('rotate_thread on "%s"', (name) => {
  test('goes on in a new provider thread, between those before and those behind it', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:by hand`
    await line.do(thread, 'create_thread', { metadata: { team: 'red' } })
    const { provider_thread_id: old } = await line.thread(thread)
    await line.insert(thread, 'add_message_and_run', turn('one'))
    const id = await line.insert(thread, 'rotate_thread', { carry_over: 1 })
    const behind = await line.insert(thread, 'add_message_and_run', turn('two'))
    const { status, error, result } = await line.end(id)
    expect({ status, error }).toEqual({ status: 'completed', error: null })
    expect(await line.end(behind)).toMatchObject({ status: 'completed' })
    const { provider_thread_id, generation, metadata } = await line.thread(thread)
    expect(result).toEqual({
      provider_thread_id,
      generation: 2,
      archive_id: expect.any(Number),
      items: 1,
      left_out: 0,
    })
    expect({ generation, metadata }).toEqual({ generation: 2, metadata: { team: 'red' } })
    expect(await metadataOf(line, name, provider_thread_id)).toEqual({
      team: 'red',
      previous_thread: old,
    })
    expect(history(line, old)).toEqual(spoken('one'))
    expect(history(line, provider_thread_id)).toEqual(['assistant: one', ...spoken('two')])
    const { archive_id } = result
    expect(await generations(pool, thread)).toMatchObject([
      { provider_thread_id: old, messages_before: 0, ended_by: 'rotated', archive_id },
      {
        provider_thread_id,
        messages_before: 2,
        carried_over: 1,
        copied_from: old,
        ended_by: null,
        archive_id: null,
      },
    ])
    await expectHealthy(pool)
  })

  test('carries nothing over unless it is told to, and deletes the old one where it is told to', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:deletes`
    const old = await begin(line, thread)
    const { status, result } = await line.do(thread, 'rotate_thread', { delete_old: true })
    expect({ status, result }).toMatchObject({
      status: 'completed',
      result: { items: 0, deleted: [{ generation: 1, provider_thread_id: old }] },
    })
    expect(() => history(line, old)).toThrow('no thread')
    expect(line.emulator.keptItems()).toEqual([])
    expect(await line.said(thread)).toEqual([])
    const [first, second] = await generations(pool, thread)
    expect(first).toMatchObject({ ended_by: 'rotated', deleted_at: expect.any(Date) })
    expect(second).toMatchObject({ carried_over: 0, copied_from: null, deleted_at: null })
    expect((await line.do(thread, 'add_message_and_run', turn('three'))).status).toBe('completed')
    expect(await line.said(thread)).toEqual(spoken('three'))
    await expectHealthy(pool)
  })

  test('has nothing to do where there is no provider thread', async ({ pool }) => {
    const line = await startLine(pool, name)
    const row = await line.do(`${name}:nothing`, 'rotate_thread', {})
    expect(row).toMatchObject({ status: 'completed', result: { items: 0 } })
    expect(providerThreads(line)).toBe(0)
  })

  test('waits for a turn with tools, and takes no call along without its output', async ({
    pool,
  }) => {
    const tools = defineTools({
      weather: tool({ arguments: z.object({}).loose(), run: () => 'rain' }),
    })
    const line = await startLine(pool, name, { tools })
    const thread = `${name}:tools`
    const described = { name: 'weather', parameters: { type: 'object', properties: {} } }
    const asked = await line.insert(thread, 'add_message_and_run', {
      message: 'Call weather.',
      ...who,
      tools: [{ type: 'function', strict: false, ...described, function: described }].map(
        ({ function: nested, ...flat }) =>
          name === 'assistants' ? { type: 'function', function: nested } : flat,
      ),
    })
    const one = await line.insert(thread, 'rotate_thread', { carry_over: 1 })
    expect((await line.end(asked)).status).toBe('completed')
    const answer = 'assistant: According to weather: rain'
    expect((await line.end(one)).result).toMatchObject({ items: 1 })
    expect(await line.said(thread)).toEqual([answer])
    // The same again, where the pair stands between the two messages that are carried over.
    const again = await line.do(thread, 'restore_thread', {
      archive_id: (await line.row(one)).result.archive_id,
    })
    expect(again.result).toMatchObject({ items: name === 'responses' ? 4 : 2, left_out: 0 })
    const two = await line.do(thread, 'rotate_thread', { carry_over: 2 })
    expect(two.result).toMatchObject({ items: name === 'responses' ? 4 : 2, left_out: 0 })
    expect(await line.said(thread)).toEqual(['user: Call weather.', answer])
    const next = await line.do(thread, 'add_message_and_run', turn('on'))
    expect(next).toMatchObject({ status: 'completed', error: null })
    await expectHealthy(pool)
  })

  test('believes its copy only when the provider lists it', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 2_000 })
    const thread = `${name}:lag`
    await begin(line, thread)
    line.emulator.setFaults([{ name: 'read_lag', ms: 600, atLeastMs: 300 }])
    const id = await line.insert(thread, 'rotate_thread', { carry_over: 3 })
    const behind = await line.insert(thread, 'add_message_and_run', turn('three'))
    const row = await line.end(id)
    expect(row).toMatchObject({ status: 'completed', failures: 0, result: { items: 3 } })
    expect((await line.end(behind)).status).toBe('completed')
    expect(await line.said(thread)).toEqual([...spoken('one', 'two').slice(1), ...spoken('three')])
    expect(providerThreads(line)).toBe(2)
    await expectHealthy(pool)
  })

  test('copies nothing twice where the answer to a copy is lost, and leaves no half of one behind', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:lost`
    await begin(line, thread)
    loseFirstAnswer(line.relay, 'POST', copiesPath)
    const row = await line.do(thread, 'rotate_thread', { carry_over: 3 })
    expect(row).toMatchObject({ status: 'completed', result: { items: 3 } })
    expect(await line.said(thread)).toEqual(spoken('one', 'two').slice(1))
    expect(providerThreads(line)).toBe(2)
    expect(line.emulator.keptItems()).toEqual([])
    await expectHealthy(pool)
  })

  test('that is cancelled in the middle leaves the thread as it was, and no copy', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { settleMs: 60_000 })
    const thread = `${name}:cancelled`
    const old = await begin(line, thread)
    // The copy does not show for as long as the test takes.
    line.emulator.setFaults([
      { name: 'read_lag', on: name === 'responses' ? 'items.list' : 'messages.list', ms: 60_000 },
    ])
    const id = await line.insert(thread, 'rotate_thread', { carry_over: 2 })
    await line.waiting(id, 'copy_not_listed')
    const stop = await line.insert(thread, 'cancel_run', {})
    line.dispatcher.wakeBeside()
    // Now its items can be listed, and so deleted.
    line.emulator.setFaults([])
    expect(await line.end(id)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
    expect((await line.end(stop)).result).toMatchObject({ outcome: 'cancelled' })
    expect(await line.thread(thread)).toMatchObject({ provider_thread_id: old, generation: 1 })
    expect((await line.do(thread, 'add_message_and_run', turn('three'))).status).toBe('completed')
    expect(await line.said(thread)).toEqual(spoken('one', 'two', 'three'))
    expect(providerThreads(line)).toBe(1)
    expect(line.emulator.keptItems()).toEqual([])
    await expectHealthy(pool)
  })

  test('that is cancelled when the thread has gone on is carried to its end', async ({ pool }) => {
    const line = await startLine(pool, name, { maxAttempts: 100 })
    const thread = `${name}:too late`
    const old = await begin(line, thread)
    const deletes = name === 'responses' ? 'conversations.delete' : 'threads.delete'
    line.emulator.setFaults([{ name: 'server_error_before_commit', on: deletes }])
    const id = await line.insert(thread, 'rotate_thread', { delete_old: true })
    await waitFor(async () => {
      const { progress, error } = await line.row(id)
      return progress?.assigned && error
    })
    const stop = await line.insert(thread, 'cancel_run', {})
    line.dispatcher.wakeBeside()
    await waitFor(async () => (await line.row(id)).error?.operation_id === stop)
    line.emulator.setFaults([])
    expect(await line.end(id)).toMatchObject({
      status: 'completed',
      result: { generation: 2, deleted: [{ generation: 1, provider_thread_id: old }] },
    })
    expect((await line.end(stop)).result).toMatchObject({ outcome: 'completed' })
    expect(providerThreads(line)).toBe(1)
    await expectHealthy(pool)
  })

  test('that the provider refuses for good leaves the thread as it was, and no copy', async ({
    pool,
  }) => {
    const line = await startLine(pool, name, { maxAttempts: 3 })
    const thread = `${name}:refused`
    const old = await begin(line, thread)
    line.emulator.setFaults([
      {
        name: 'server_error_before_commit',
        on: name === 'responses' ? 'items.create' : 'messages.create',
      },
    ])
    const row = await line.do(thread, 'rotate_thread', { carry_over: 2 })
    expect(row).toMatchObject({ status: 'failed', failures: 2 })
    line.emulator.setFaults([])
    expect(await line.thread(thread)).toMatchObject({ provider_thread_id: old, generation: 1 })
    expect(providerThreads(line)).toBe(1)
    await expectHealthy(pool)
  })

  test('waits for a foreign run, and is cancelled where that does not end', async ({ pool }) => {
    const line = await startLine(pool, name, { foreignRunMs: 300 })
    const thread = `${name}:foreign`
    const old = await begin(line, thread)
    await pool.query(`update threads set on_failure = 'halt' where id = $1`, [thread])
    line.emulator.foreignRun(old, { ms: 60_000 })
    const row = await line.do(thread, 'rotate_thread', {})
    expect(row).toMatchObject({ status: 'cancelled', error: { code: 'foreign_run_timeout' } })
    expect(await line.thread(thread)).toMatchObject({ provider_thread_id: old, generation: 1 })
    expect(providerThreads(line)).toBe(1)
  })

  test('changes nothing in the name of a dispatcher that has lost it', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:stale`
    const old = await begin(line, thread)
    const { rows } = await pool.query(
      `select replace_provider_thread('nobody', $1, 1, 'rotated', '{}') as noted`,
      [await line.insert(thread, 'hold', {})],
    )
    expect(rows).toEqual([{ noted: null }])
    expect(await line.thread(thread)).toMatchObject({ provider_thread_id: old, generation: 1 })
  })

  test('waits for a transaction that holds the thread, and goes on when that is over', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:held row`
    await begin(line, thread)
    const client = await pool.connect()
    await client.query('begin')
    await client.query('select from threads where id = $1 for update', [thread])
    const id = await line.insert(thread, 'rotate_thread', { carry_over: 1 })
    await copied(line, id, 1)
    expect((await line.do(`${name}:other`, 'add_message', { message: 'Hi' })).status).toBe(
      'completed',
    )
    expect((await line.row(id)).status).toBe('processing')
    await client.query('rollback')
    client.release()
    expect((await line.end(id)).status).toBe('completed')
    expect(await line.thread(thread)).toMatchObject({ generation: 2 })
    await waitFor(async () => (await line.row(id)).progress.copying === null)
  })
})

test('a copy on Assistants stands in its order although messages of one second have none', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants', {
    emulator: { faults: [{ name: 'tied_order' }] },
  })
  const thread = 'assistants:tied'
  await begin(line, thread)
  const row = await line.do(thread, 'rotate_thread', { carry_over: 4 })
  expect(row).toMatchObject({ status: 'completed', failures: 0, result: { items: 4 } })
  const { rows } = await pool.query(
    `select role || ': ' || text as said from archived_messages where archive_id = $1 order by position`,
    [row.result.archive_id],
  )
  expect(await line.said(thread)).toEqual(rows.map(({ said }) => said))
  expect((await line.do(thread, 'add_message_and_run', turn('three'))).status).toBe('completed')
})

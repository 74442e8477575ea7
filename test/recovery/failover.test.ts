import type pg from 'pg'
import { expect, onTestFinished } from 'vitest'
import { defaultModel, startEmulator } from '../../src/emulator/index.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import {
  type DispatcherProcess,
  startProcess,
  untilBeaten,
  untilBeatenTwice,
  untilSeen,
} from './processes.ts'

const question = {
  thread_id: 't',
  operation: 'add_message_and_run',
  data: { message: 'reply with exactly: here', assistant_id: 'asst_abcdefghijklmnopqrstuvwx' },
}

/** A provider whose model answers when told. */
async function startThinking() {
  const thought = Promise.withResolvers<void>()
  const emulator = await startEmulator({
    model: async (request) => {
      await thought.promise
      return defaultModel(request)
    },
  })
  return { emulator, think: () => thought.resolve() }
}

const isHeldBy = async (pool: pg.Pool, id: number, dispatcher: string) =>
  (await readRow(pool, id)).claimed_by === dispatcher

const eventsOf = async (pool: pg.Pool, id: number) =>
  (
    await pool.query(
      'select to_status, actor from operation_events where operation_id = $1 order by id',
      [id],
    )
  ).rows.map(({ to_status, actor }) => [to_status, actor])

/** Two real processes; one of them holds the operation and has looked at its run once. */
async function startHolding(url: string, pool: pg.Pool) {
  const { emulator, think } = await startThinking()
  onTestFinished(() => emulator.close())
  const processes = [await startProcess(url, emulator.url), await startProcess(url, emulator.url)]
  for (const { id } of processes) await untilSeen(pool, id)
  const { id } = await insertRow(pool, question)
  const holder = await waitFor(() =>
    processes.find(({ relay }) => relay.requests.some(({ path }) => /\/runs\/run_\w+$/.test(path))),
  )
  const witness = processes.find((process) => process !== holder) as DispatcherProcess
  return { emulator, think, id, holder, witness }
}

test('what a killed dispatcher held is taken over within 2 s at the defaults, and its run is followed', async ({
  url,
  pool,
}) => {
  const { emulator, think, id, holder, witness } = await startHolding(url, pool)
  holder.child.kill('SIGKILL')
  await waitFor(() => isHeldBy(pool, id, witness.id), {
    timeoutMs: 2_000,
    message: 'the living dispatcher holds what the killed one held',
  })
  think()
  await waitFor(async () => (await readRow(pool, id)).status === 'completed')
  expect(await eventsOf(pool, id)).toEqual([
    ['processing', holder.id],
    ['pending', witness.id],
    ['processing', witness.id],
    ['completed', witness.id],
  ])
  expect(emulator.stats.runsStarted).toBe(1)
  await expectHealthy(pool)
})

test('what a stopped dispatcher held is taken over within 15 s; when it goes on, it asks the provider nothing and writes nothing', {
  timeout: 40_000,
}, async ({ url, pool }) => {
  const { emulator, think, id, holder, witness } = await startHolding(url, pool)
  // Its next look at the run is due half a second after the first, sooner than its own watchdog.
  await untilBeaten(pool, holder.id)
  holder.child.kill('SIGSTOP')
  onTestFinished(() => void holder.child.kill('SIGCONT'))
  await waitFor(() => isHeldBy(pool, id, witness.id), {
    timeoutMs: 15_000,
    message: 'the running dispatcher holds what the stopped one held',
  })
  // The run ends before that one goes on: one more look would show it the result.
  think()
  await waitFor(async () => (await readRow(pool, id)).status === 'completed')
  const asked = holder.relay.requests.length
  holder.child.kill('SIGCONT')
  const [line] = await holder.printed(/.*goes on under a new id.*/)
  await untilBeatenTwice(pool, JSON.parse(line).dispatcher)
  expect(holder.relay.requests.slice(asked)).toEqual([])
  expect((await eventsOf(pool, id)).slice(1)).toEqual([
    ['pending', witness.id],
    ['processing', witness.id],
    ['completed', witness.id],
  ])
  expect(emulator.stats.runsStarted).toBe(1)

  // It serves again, as somebody new.
  witness.child.kill('SIGTERM')
  await witness.ended
  const next = await insertRow(pool, question)
  await waitFor(async () => (await readRow(pool, next.id)).status === 'completed')
  await expectHealthy(pool)
})

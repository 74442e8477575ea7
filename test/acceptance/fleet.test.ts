import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { expect } from 'vitest'
import { startEmulator } from '../../src/emulator/index.ts'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { brokenPromises } from '../support/promised-order.ts'
import { Random } from '../support/random.ts'
import { waitFor } from '../support/wait-for.ts'
import { writeAtRandom } from './writers.ts'

const main = resolve(import.meta.dirname, '../../src/cli/main.ts')
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
const threads = Array.from({ length: 50 }, (_, i) => `fleet:${i}`)
const isAssistants = (thread: string) => Number(thread.split(':')[1]) % 2 === 0

function dispatcherProcess(url: string, emulatorUrl: string): ChildProcess {
  return spawn(process.execPath, [main, 'dispatch', '--concurrency', '10', '--log-level', 'warn'], {
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: url,
      OPENAI_API_KEY: 'any',
      OPENAI_BASE_URL: emulatorUrl,
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

test(`three dispatcher processes carry out what ten connections write at random, exactly once and in order (SEED=${seed})`, {
  timeout: 120_000,
}, async ({ url, pool, onTestFinished }) => {
  const emulator = await startEmulator({ latency: { queuedMs: 0, thinkMs: 2, perTokenMs: 0 } })
  onTestFinished(() => emulator.close())
  const dispatchers = [1, 2, 3].map(() => dispatcherProcess(url, emulator.url))
  onTestFinished(() => dispatchers.forEach((dispatcher) => dispatcher.kill('SIGKILL')))
  await pool.query("insert into assistants (id, model) values ('asst_test', 'gpt-4o')")
  await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     select thread, 'create_thread', jsonb_build_object('provider', provider)
       from unnest($1::text[], $2::text[]) as t (thread, provider)`,
    [threads, threads.map((thread) => (isAssistants(thread) ? 'assistants' : 'responses'))],
  )

  const sent = await writeAtRandom({
    url,
    threads,
    writers: 10,
    transactions: 25,
    random: new Random(seed),
  })
  await waitFor(
    async () =>
      (await pool.query('select from thread_operations where finished_at is null')).rowCount === 0,
    { timeoutMs: 60_000, message: 'every operation is final' },
  )

  const { rows } = await pool.query(
    `select id, thread_id, operation, data ->> 'message' as text, status, turn, error from thread_operations
      order by thread_id, turn`,
  )
  expect(rows.filter(({ status }) => status !== 'completed')).toEqual([])
  const committed = sent.filter((row) => row.committed !== null)
  expect(
    rows
      .filter(({ operation }) => operation !== 'create_thread')
      .map(({ id }) => id)
      .sort(),
  ).toEqual(committed.map(({ id }) => id).sort())
  expect(brokenPromises(sent, new Map(rows.map(({ id, turn }) => [id, turn])))).toEqual([])
  expect(emulator.stats.conflicts).toBe(0)

  const providerThreads = await pool.query('select id, provider_thread_id from threads')
  for (const { id, provider_thread_id } of providerThreads.rows) {
    const ofThread = rows.filter(({ thread_id }) => thread_id === id)
    expect(ofThread.map(({ turn }) => turn)).toEqual(ofThread.map((_, i) => i + 1))
    const expected = ofThread.flatMap(({ operation, text }) =>
      operation === 'add_message'
        ? [text]
        : operation === 'add_message_and_run'
          ? [text, 'the answer']
          : [],
    )
    const history = emulator
      .history(provider_thread_id)
      .map(({ role, text }) => (role === 'assistant' ? 'the answer' : text))
    expect(history, `history of ${id} at the provider`).toEqual(expected)
  }

  const { rows: actors } = await pool.query(
    "select distinct actor from operation_events where to_status = 'completed'",
  )
  expect(actors).toHaveLength(3)
  for (const dispatcher of dispatchers) {
    dispatcher.kill('SIGTERM')
    const [code] = await once(dispatcher, 'exit')
    expect(code).toBe(0)
  }
  await expectHealthy(pool)
})

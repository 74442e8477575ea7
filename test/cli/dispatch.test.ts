import type pg from 'pg'
import { expect, onTestFinished } from 'vitest'
import { type Emulator, type Latency, startEmulator } from '../../src/emulator/index.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { inturn, type Running, start } from './cli.ts'

/** Long enough to be in the middle of it. */
const slow = { thinkMs: 1500 }
const quickLife = ['--sweep-ms', '50']

async function emulate(latency: Partial<Latency> = {}): Promise<Emulator> {
  const emulator = await startEmulator({ latency })
  onTestFinished(() => emulator.close())
  return emulator
}

async function dispatch(url: string, emulator: Emulator, ...args: string[]): Promise<Running> {
  const env = { OPENAI_API_KEY: 'hidden-word', OPENAI_BASE_URL: emulator.url }
  const running = start(['dispatch', ...quickLife, ...args], { databaseUrl: url, env })
  await running.printed(/dispatcher started/)
  return running
}

const insert = (pool: pg.Pool) =>
  pool.query(`insert into thread_operations (thread_id, operation, data)
              values ('t1', 'add_message_and_run', '{"message": "Hi", "model": "gpt-4o"}')`)

const statusOf = async (pool: pg.Pool) =>
  (await pool.query('select status from thread_operations')).rows[0].status

/** The run is under way, and its id is written down. */
const untilRunning = (pool: pg.Pool) =>
  waitFor(async () => {
    const { rows } = await pool.query('select progress from thread_operations')
    return rows[0].progress?.run_id
  })

/** What the provider was told and answered, in order. */
async function rolesOf(pool: pg.Pool, emulator: Emulator): Promise<string[]> {
  const { rows } = await pool.query('select provider_thread_id from threads')
  return emulator.history(rows[0].provider_thread_id).map(({ role }) => role)
}

test('dispatch serves the lines; one line at its start says how, and never a key', async ({
  url,
}) => {
  const running = await dispatch(url, await emulate(), '--concurrency', '7')
  const [first = ''] = running.stdout().split('\n')
  expect(JSON.parse(first)).toMatchObject({
    dispatcher: expect.any(String),
    providers: ['responses', 'assistants'],
    concurrency: 7,
    schema: 'public',
  })
  const healthy = await inturn(['status', '--healthy'], { databaseUrl: url })
  expect(healthy.code).toBe(0)
  const args = ['enqueue', 't1', 'add_message_and_run', '--model', 'gpt-4o', '--wait']
  const message = ['--message', 'Reply with exactly: pong']
  expect(await inturn([...args, ...message], { databaseUrl: url })).toMatchObject({
    code: 0,
    stdout: 'pong\n',
  })
  const unknown = ['enqueue', 't2', 'add_message_and_run', '--assistant', 'asst_none', '--wait']
  const failed = await inturn([...unknown, ...message], { databaseUrl: url })
  expect(failed.code).toBe(1)
  expect(failed.stderr).toMatch(/^error: Operation \d+ failed: /)
  running.child.kill('SIGTERM')
  expect(await running.ended).toBe(0)
  expect(running.stdout() + running.stderr()).not.toMatch(/hidden-word|pong/)
})

test('SIGTERM in the middle of a run lets it finish', async ({ url, pool }) => {
  const emulator = await emulate(slow)
  const running = await dispatch(url, emulator)
  await insert(pool)
  await untilRunning(pool)
  running.child.kill('SIGTERM')
  expect(await running.ended).toBe(0)
  expect(await statusOf(pool)).toBe('completed')
})

test('a run that outlasts the shutdown is followed by the next dispatcher, never sent again', async ({
  url,
  pool,
}) => {
  const emulator = await emulate(slow)
  const first = await dispatch(url, emulator, '--shutdown-ms', '50')
  await insert(pool)
  await untilRunning(pool)
  first.child.kill('SIGTERM')
  expect(await first.ended).toBe(0)
  expect(await statusOf(pool)).not.toBe('completed')

  await dispatch(url, emulator)
  await waitFor(async () => (await statusOf(pool)) === 'completed')
  expect(emulator.stats.runsStarted).toBe(1)
  expect(await rolesOf(pool, emulator)).toEqual(['user', 'assistant'])
})

test('a second signal ends it at once, with the code a shell expects', async ({ url, pool }) => {
  const running = await dispatch(url, await emulate({ thinkMs: 60_000 }))
  await insert(pool)
  await untilRunning(pool)
  running.child.kill('SIGINT')
  await running.printed(/a second signal ends at once/)
  // npm passes on a Ctrl-C that the terminal has sent already: only a later one counts.
  await waitFor(() => {
    running.child.kill('SIGINT')
    return running.child.exitCode
  })
  expect(await running.ended).toBe(130)
  expect(await statusOf(pool)).toBe('processing')
})

test('without a key for its default provider, it says what stays waiting', async ({ url }) => {
  const env = { ASSISTANTS_API_KEY: 'any' }
  const running = start(['dispatch'], { databaseUrl: url, env })
  await running.printed(/threads that name no provider wait .* INTURN_PROVIDER=assistants/)
})

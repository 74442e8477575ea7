import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type pg from 'pg'
import { expect, onTestFinished } from 'vitest'
import { startEmulator } from '../../src/emulator/index.ts'
import { type Running, start } from '../cli/cli.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow, readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const weather = fileURLToPath(new URL('tools/weather.ts', import.meta.url))
const functionTool = { type: 'function', name: 'get_weather', strict: false, parameters: {} }

/** Two processes of `inturn dispatch` that have a tool, the one that has begun with a call first. */
async function startTwo(url: string, pool: pg.Pool) {
  const folder = await mkdtemp(join(tmpdir(), 'inturn-tools-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const log = join(folder, 'log')
  await writeFile(log, '')
  const emulator = await startEmulator({ latency: { queuedMs: 0, thinkMs: 0, perTokenMs: 0 } })
  onTestFinished(() => emulator.close())
  const env = { OPENAI_API_KEY: 'any', OPENAI_BASE_URL: emulator.url, TOOL_LOG: log }
  const args = ['dispatch', '--tools', weather, '--settle-ms', '0', '--shutdown-ms', '1000']
  const both: Running[] = [0, 1].map(() => start(args, { databaseUrl: url, env }))
  for (const one of both) await one.printed(/dispatcher started/)

  const { id } = await insertRow(pool, {
    thread_id: 't',
    operation: 'add_message_and_run',
    data: { message: 'Call get_weather.', model: 'gpt-4o', tools: [functionTool] },
  })
  const logged = async (pattern: RegExp) =>
    waitFor(async () => pattern.exec(await readFile(log, 'utf8')), { message: `${pattern}` })
  const [, callId, , pid] = (await logged(/^(\S+) (1) begins in (\d+)$/m)) as RegExpExecArray
  const first = both.find(({ child }) => child.pid === Number(pid)) as Running
  return { id, callId, first, logged, emulator }
}

const isCompleted = async (pool: pg.Pool, id: number) => {
  const row = await readRow(pool, id)
  return row.status === 'completed' && row
}

test('a call whose dispatcher is killed is begun anew by the other, with the same id', async ({
  url,
  pool,
}) => {
  const { id, callId, first, logged, emulator } = await startTwo(url, pool)
  await waitFor(async () => (await readRow(pool, id)).status === 'requires_action')
  first.child.kill('SIGKILL')
  await logged(new RegExp(`^${callId} 2 begins`, 'm'))
  const row = await waitFor(() => isCompleted(pool, id))
  expect(row.result).toMatchObject({ text: 'According to get_weather: rain, by attempt 2' })
  expect(emulator.stats).toMatchObject({ runsStarted: 2, conflicts: 0 })
  await expectHealthy(pool)
})

test('a dispatcher that is asked to stop aborts its tools, and gives their calls back', async ({
  url,
  pool,
}) => {
  const { id, callId, first, logged } = await startTwo(url, pool)
  first.child.kill('SIGTERM')
  await logged(new RegExp(`^${callId} 1 is aborted`, 'm'))
  expect(await first.ended).toBe(0)
  const row = await waitFor(() => isCompleted(pool, id))
  expect(row.result).toMatchObject({ text: 'According to get_weather: rain, by attempt 2' })
})

test('a tool whose call is answered by others is aborted', async ({ url, pool }) => {
  const { id, callId, logged } = await startTwo(url, pool)
  await insertRow(pool, {
    thread_id: 't',
    operation: 'submit_tool_outputs',
    data: { outputs: [{ call_id: callId, output: 'sun' }] },
  })
  await logged(new RegExp(`^${callId} 1 is aborted`, 'm'))
  const row = await waitFor(() => isCompleted(pool, id))
  expect(row.result).toMatchObject({ text: 'According to get_weather: sun' })
})

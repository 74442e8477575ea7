import { expect } from 'vitest'
import { startLine, who } from '../operations/line.ts'
import { test } from '../support/own-database.ts'
import { inturn, start } from './cli.ts'

const ask = ['add_message_and_run', '--message', 'reply with exactly: It rains.']
const asked = [...ask, '--assistant', who.assistant_id]

test('enqueue --stream prints the answer, and stream prints it again', async ({ pool, url }) => {
  await startLine(pool, 'responses', { streams: true })
  const enqueued = await inturn(['enqueue', 'user:1', ...asked, '--stream'], { databaseUrl: url })
  expect(enqueued).toEqual({ code: 0, stdout: 'It rains.\n', stderr: '' })
  const { rows } = await pool.query('select id from thread_operations')
  const again = await inturn(['stream', String(rows[0].id)], { databaseUrl: url })
  expect(again).toEqual({ code: 0, stdout: 'It rains.\n', stderr: '' })

  const args = ['stream', String(rows[0].id), '--from', '2', '--json']
  const { stdout } = await inturn(args, { databaseUrl: url })
  const events = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(events[0].seq).toBe(2)
  expect(events.at(-1)).toMatchObject({ type: 'ended', status: 'completed' })

  await pool.query('delete from operation_stream')
  const gone = await inturn(['stream', String(rows[0].id)], { databaseUrl: url })
  expect(gone).toMatchObject({ code: 0, stdout: 'It rains.\n' })
})

test('a process prints what a dispatcher elsewhere hears, before the run is over', async ({
  pool,
  url,
}) => {
  const line = await startLine(pool, 'responses', { streams: true, callTimeoutMs: 30_000 })
  line.emulator.setFaults([{ name: 'answer_stalls', on: 'responses.create', event: 6 }])
  const running = start(['enqueue', 'user:1', ...asked, '--stream'], { databaseUrl: url })
  await running.printed(/^It/)
  expect(running.stdout()).not.toContain('rains')
  line.emulator.setFaults([])
  expect(await running.ended).toBe(0)
  expect(running.stdout()).toBe('It rains.\n')
})

test('what cannot be streamed is told, with an exit code', async ({ pool, url }) => {
  const line = await startLine(pool, 'responses', { streams: true })
  const unknown = await inturn(['stream', '4711'], { databaseUrl: url })
  expect(unknown).toMatchObject({ code: 1, stdout: '' })
  expect(unknown.stderr).toContain('There is no operation 4711')
  expect((await inturn(['stream', 'x'], { databaseUrl: url })).stderr).toContain('number')

  line.emulator.setFaults([{ name: 'run_fails', on: 'responses.create', code: 'invalid_prompt' }])
  const failed = await inturn(['enqueue', 'user:1', ...asked, '--stream'], { databaseUrl: url })
  expect(failed).toMatchObject({ code: 1, stdout: '' })
  expect(failed.stderr).toContain('failed')
  const { rows } = await pool.query('select id from thread_operations')
  const zero = await inturn(['stream', String(rows[0].id), '--from', '0'], { databaseUrl: url })
  expect(zero.stderr).toContain('A stream has no event 0')
})

test('--timeout-ms ends the wait and says how far the operation is', async ({ url }) => {
  const args = ['enqueue', 'nobody:serves', ...asked, '--stream', '--timeout-ms', '50']
  const { code, stderr } = await inturn(args, { databaseUrl: url })
  expect(code).toBe(1)
  expect(stderr).toContain('was not final after 50 ms: it is pending, number 1')
})

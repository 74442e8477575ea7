import { expect } from 'vitest'
import { test } from '../support/database.ts'
import { inturn } from './cli.ts'

test('enqueue puts a row into the line, built from JSON and options', async ({ url, pool }) => {
  const args = ['enqueue', 'user:1', 'add_message_and_run', '{"temperature": 0.5}']
  const more = ['--message', 'Hi', '--assistant', 'asst_1', '--priority', '-3', '--json']
  const { code, stdout } = await inturn([...args, ...more], { databaseUrl: url })
  expect(code).toBe(0)
  const { id } = JSON.parse(stdout)
  const { rows } = await pool.query('select * from thread_operations where id = $1', [id])
  expect(rows[0]).toMatchObject({
    thread_id: 'user:1',
    operation: 'add_message_and_run',
    data: { temperature: 0.5, message: 'Hi', assistant_id: 'asst_1' },
    priority: -3,
    status: 'pending',
  })
})

test('--retry says how failures are retried, and is checked', async ({ url, pool }) => {
  const args = ['enqueue', 'retry', 'add_message', '--message', 'Hi', '--retry']
  const sent = await inturn([...args, '{"max_attempts": 3}', '--json'], { databaseUrl: url })
  const { rows } = await pool.query('select retry from thread_operations where id = $1', [
    JSON.parse(sent.stdout).id,
  ])
  expect(rows).toEqual([{ retry: { max_attempts: 3 } }])
  const misspelt = await inturn([...args, '{"max_attemps": 3}'], { databaseUrl: url })
  expect(misspelt).toMatchObject({ code: 2, stdout: '' })
  expect(misspelt.stderr).toContain(
    '--retry: unknown key "max_attemps": did you mean "max_attempts"?',
  )
  const noJson = await inturn([...args, '3 times'], { databaseUrl: url })
  expect(noJson.code).toBe(2)
  expect(noJson.stderr).toContain('--retry is no JSON')
})

test('- reads the data from standard input', async ({ url, pool }) => {
  const input = '{"message": "It rains."}\n'
  const { code } = await inturn(['enqueue', 't2', 'add_message', '-'], { databaseUrl: url, input })
  expect(code).toBe(0)
  const { rows } = await pool.query(`select data from thread_operations where thread_id = 't2'`)
  expect(rows).toEqual([{ data: { message: 'It rains.' } }])
})

test('the same idempotency key gives the same operation, and is refused for another one', async ({
  url,
}) => {
  const enqueue = (message: string) =>
    inturn(
      ['enqueue', 't3', 'add_message', '--message', message, '--idempotency-key', 'k', '--json'],
      { databaseUrl: url },
    )
  const first = await enqueue('one')
  expect((await enqueue('one')).stdout).toBe(first.stdout)
  const other = await enqueue('two')
  expect(other.code).toBe(1)
  expect(other.stderr).toMatch(/^error: .*"k".*\nhint: Use a new key/)
})

const refusals: Array<[string, string[], number, RegExp]> = [
  [
    'a misspelt field',
    ['add_message', '{"mesage": "Hi"}'],
    1,
    /"mesage".*\nhint: Did you mean "message"/,
  ],
  ['an unknown operation', ['add_mesage'], 1, /"add_mesage"\nhint: Did you mean "add_message"/],
  ['data that is no JSON', ['add_message', '{message: Hi}'], 2, /data is no JSON.*\nhint: /],
  ['data that is no object', ['add_message', '["Hi"]'], 2, /data must be a JSON object/],
]
for (const [what, args, expected, message] of refusals) {
  test(`${what} is refused with what to write instead`, async ({ url }) => {
    const { code, stderr, stdout } = await inturn(['enqueue', 't4', ...args], { databaseUrl: url })
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
    expect(code).toBe(expected)
  })
}

test('--wait gives up after --timeout-ms and says what the operation waits for', async ({
  url,
}) => {
  const args = ['enqueue', 't5', 'create_thread', '--wait', '--timeout-ms', '100']
  const { code, stderr } = await inturn(args, { databaseUrl: url })
  expect(code).toBe(1)
  expect(stderr).toMatch(/is pending, number 1 in its line \(no dispatcher is running\)/)
})

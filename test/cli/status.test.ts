import { expect } from 'vitest'
import { test } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'
import { inturn, start } from './cli.ts'

const insert = `insert into thread_operations (thread_id, operation, data)
                select $1, 'add_message', '{"message": "Hi"}' from generate_series(1, $2)`

test('status shows what threads do and what each operation waits for', async ({ url, pool }) => {
  await pool.query(insert, ['shown', 2])
  const { code, stdout } = await inturn(['status'], { databaseUrl: url })
  expect(code).toBe(0)
  expect(stdout).toContain('No dispatcher is running.')
  expect(stdout).toMatch(/^shown +active +2 /m)
  expect(stdout).toMatch(/^ *\d+ +shown +1 +add_message .*no dispatcher is running$/m)
  expect(stdout).toMatch(/^ *\d+ +shown +2 +add_message .*behind the operations before it$/m)
})

test('status of a thread tells its story, also as JSON', async ({ url, pool }) => {
  await pool.query(insert, ['told', 2])
  await pool.query(`update thread_operations set status = 'cancelled' where thread_id = 'told'`)
  const { stdout } = await inturn(['status', 'told'], { databaseUrl: url })
  expect(stdout.match(/joined the line/g)).toHaveLength(2)
  expect(stdout.match(/add_message .* cancelled/g)).toHaveLength(2)

  const json = await inturn(['status', 'told', '--json'], { databaseUrl: url })
  const status = JSON.parse(json.stdout)
  expect(status).toMatchObject({ dispatchers: [], waiting: [] })
  expect(status.timeline.map(({ event }: { event: string }) => event).sort()).toEqual([
    'cancelled',
    'cancelled',
    'joined the line',
    'joined the line',
  ])
})

test('a thread that nobody ever used is an error', async ({ url }) => {
  const { code, stderr } = await inturn(['status', 'nobody'], { databaseUrl: url })
  expect(code).toBe(1)
  expect(stderr).toMatch(/Nothing was ever inserted for thread nobody\.\nhint: /)
})

test('--watch goes on showing what changes', async ({ url, pool }) => {
  const watching = start(['status', 'watched', '--watch', '--json'], { databaseUrl: url })
  expect(await watching.ended).toBe(1) // nothing there yet
  await pool.query(insert, ['watched', 1])
  const { stdout } = start(['status', 'watched', '--watch', '--json'], { databaseUrl: url })
  const latest = () => JSON.parse(stdout().trim().split('\n').at(-1) || '{}')
  await waitFor(() => latest().waiting?.length === 1)
  await pool.query(insert, ['watched', 1])
  await waitFor(() => latest().waiting.length === 2)
})

test('--healthy fails where no dispatcher of this host lives', async ({ url }) => {
  const { code, stdout, stderr } = await inturn(['status', '--healthy'], { databaseUrl: url })
  expect(code).toBe(1)
  expect(stdout).toBe('')
  expect(stderr).toContain('No dispatcher of this host')
})

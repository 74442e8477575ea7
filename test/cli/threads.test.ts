import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { test } from '../support/own-database.ts'
import { inturn } from './cli.ts'

test('a thread is made by its keys, and found by keys, labels and state', async ({ url }) => {
  const run = (...args: string[]) => inturn(args, { databaseUrl: url })
  const keys = ['--user', '42', '--topic', 'billing']
  for (const label of ['team=red', 'team=blue']) {
    const made = await run('thread', ...keys, '--label', label, '--label', 'nr=4')
    expect(made).toMatchObject({ code: 0, stdout: 'user:42:topic:billing\n' })
  }
  const { stdout } = await run('thread', ...keys, '--json')
  expect(JSON.parse(stdout)).toMatchObject({ user_id: '42', labels: { team: 'red', nr: 4 } })
  await run('thread', '--user', '43')

  const list = async (...args: string[]) => (await run('threads', ...args)).stdout
  expect(await list()).toMatch(/^user:42:topic:billing +idle +0 +0 [\s\S]*^user:43 /m)
  expect(await list('--limit', '1')).toMatch(/\n\nMore: --after user:42:topic:billing\n$/)
  expect(await list('--label', 'nr=5')).toBe('There is no such thread.\n')
  const json = await list('--topic', 'billing', '--state', 'idle', '--label', 'nr=4', '--json')
  expect(JSON.parse(json)).toMatchObject([{ thread_id: 'user:42:topic:billing' }])

  expect(await run('thread')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^error: a thread is found by .*\nhint: .*get_thread/),
  })
  expect(await run('thread', '--user', '1', '--label', 'red')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Write it like team=red.'),
  })
})

test('policies are set, listed, explained and removed', async ({ url, pool }) => {
  const run = (...args: string[]) => inturn(['policies', ...args], { databaseUrl: url })
  expect((await run()).stdout).toMatch(/^There is none: nothing expires/)
  const limits = ['--idle-ttl', '30 days', '--max-messages', '500', '--carry-over', '20']
  expect((await run('set', 'users', '--pattern', 'user', ...limits)).stdout).toBe('added users\n')
  expect((await run('set', 'vip', '--reopen', 'true')).stdout).toBe('added vip\n')
  await run('set', 'users', '--absolute-ttl', '1 year', '--idle-ttl', 'null')
  const { stdout } = await run()
  expect(stdout).toMatch(
    /^users +user +after 1 year: archive_and_delete +500 messages, takes 20 along +- +for ever$/m,
  )
  expect(stdout).toMatch(/^vip +who names it +- +- +reopened +for ever$/m)
  expect(JSON.parse((await run('--json')).stdout)[0]).toMatchObject({
    name: 'users',
    idle_ttl: null,
    absolute_ttl: '1 year',
    max_messages: 500,
  })

  await pool.query(`select get_thread('42'), get_thread('42', p_topic => 'x')`)
  expect((await run('of', 'user:42')).stdout).toMatch(
    /^users counts for user:42, which has the keys user: it is for the pattern "user"\./,
  )
  expect((await run('of', 'user:42:topic:x')).stdout).toBe(
    'No policy counts for user:42:topic:x, which has the keys user+topic and names none.\n',
  )
  await pool.query(`update threads set policy = 'vip' where id = 'user:42'`)
  expect((await run('of', 'user:42')).stdout).toMatch(/^vip counts .* names it itself\./)
  expect(await run('remove', 'vip')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^error: policy 'vip' is that of thread .*\nhint: .*UPDATE/),
  })
  expect((await run('remove', 'users')).stdout).toBe('removed users\n')
  expect(await run('remove', 'users')).toMatchObject({ code: 1 })
  expect(await run('of', 'nobody')).toMatchObject({ code: 1 })
})

test.for([
  [['--pattern', 'usr'], 1, /^error: 'usr' is no pattern\nhint: Write the keys/],
  [['--pattern', 'user'], 1, /^error: Another policy is for these threads already/],
  [['--idle-ttl', 'soon'], 2, /^error: A setting cannot be read: .*"soon"\.\nhint: .*"30 days"/],
  [['--idle-ttl', '-1 day'], 1, /^error: a time of a policy must be .*\nhint: /],
  [['--max-age', '2000 years'], 1, /^error: a time of a policy must be .*\nhint: /],
  [['--max-messages', '0'], 1, /^error: max_messages and max_tokens must be 1 or more/],
  [['--max-messages', '5', '--carry-over', '5'], 1, /is rotated at 5 at once\nhint: /],
  [['--carry-over', '101'], 1, /^error: carry_over must be 0 to 100, not 101\nhint: /],
  [['--on-expiry', 'burn'], 1, /^error: on_expiry must say .*'burn'\nhint: /],
  [['--on-expiry', 'null'], 2, /^error: That setting cannot be null\./],
] as const)('a policy with %j is refused', async ([args, code, message], { url, pool }) => {
  await pool.query(`insert into thread_policies (name, pattern) values ('taken', 'user')`)
  const refused = await inturn(['policies', 'set', 'p', ...args], { databaseUrl: url })
  expect(refused).toMatchObject({ code, stderr: expect.stringMatching(message) })
  expect((await pool.query('select from thread_policies')).rowCount).toBe(1)
})

test('ids are adopted from the command line and from a file, and bad lines are named', async ({
  url,
  pool,
}) => {
  const adopt = (args: string[], input?: string) =>
    inturn(['adopt', ...args], { databaseUrl: url, input })
  const id = (n: number) => `conv_${String(n).padStart(48, '0')}`
  const folder = await mkdtemp(join(tmpdir(), 'inturn-adopt-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const file = join(folder, 'ids.txt')
  const lines = Array.from({ length: 2_500 }, (_, i) => id(i))
  await writeFile(file, ['not an id', '', ...lines].join('\r\n'))
  expect(await adopt(['--file', file, '--user', '42'])).toMatchObject({
    code: 1,
    stdout: 'asked for 2500 adoptions; 1 line without an id\n',
    stderr: 'line 1: "not an id" is no id of a provider thread\n',
  })
  expect(await adopt(['--file', '-', '--json'], `${id(0)}\n${id(3_000)}`)).toMatchObject({
    code: 0,
    stdout: '{"asked":1,"before":1,"bad":0}\n',
  })
  const { rows } = await pool.query(
    `select count(*)::int as count, count(t.user_id)::int as owned, min(o.thread_id) as first
       from thread_operations o left join threads t on t.id = o.thread_id where o.operation = 'create_thread'`,
  )
  expect(rows).toEqual([{ count: 2_501, owned: 2_500, first: id(0) }])

  expect(await adopt([id(1), '--provider', 'assistants'])).toMatchObject({
    code: 1,
    stderr: `line 1: "${id(1)}" is an id of responses, not of assistants\n`,
  })
  expect((await adopt(['old'])).stderr).toMatch(/^line 1: "old" .*write --provider/)
  expect((await adopt(['old', '--provider', 'assistants'])).stdout).toBe('asked for 1 adoption\n')
  expect(await adopt([])).toMatchObject({ code: 2 })
  expect((await adopt(['--file', folder])).stderr).toMatch(/^error: .* cannot be read: EISDIR/)
})

import { expect, test } from 'vitest'
import { inturn } from './cli.ts'

test('--help names every command, with examples and exit codes', async () => {
  const { code, stdout } = await inturn(['--help'])
  expect(code).toBe(0)
  for (const command of ['demo', 'dev', 'emulator', 'migrate', 'dispatch']) {
    expect(stdout).toContain(`\n  ${command} `)
  }
  expect(stdout).toContain('$ inturn enqueue')
  expect(stdout).toContain('Exit codes')
})

test('the help of dispatch tells every setting with its flag, environment variable and default', async () => {
  const { code, stdout } = await inturn(['dispatch', '--help'])
  expect(code).toBe(0)
  const text = stdout.replaceAll(/\s+/g, ' ')
  expect(text).toContain(
    '--concurrency <n> operations executed at once (INTURN_CONCURRENCY, default',
  )
  expect(text).toContain('--openai-api-key <key>')
  expect(text).toContain('(ASSISTANTS_BASE_URL)')
  expect(text).toContain('--database-url <url>')
})

test.each([
  ['no command', [], 'Usage: inturn'],
  ['an unknown command', ['dispatsh'], "unknown command 'dispatsh'"],
  ['an unknown option', ['dispatch', '--concurency', '3'], '(Did you mean --concurrency?)'],
  ['a missing argument', ['enqueue', 't1'], "missing required argument 'operation'"],
  ['an option that is no number', ['emulator', '--port', 'http'], 'Write a whole number.'],
])('%s is refused with exit code 2', async (_what, args, message) => {
  const { code, stdout, stderr } = await inturn(args)
  expect(stderr).toContain(message)
  expect(stdout).toBe('')
  expect(code).toBe(2)
})

test('all that is wrong with the settings is told at once, with exit code 2', async () => {
  const { code, stderr } = await inturn(['dispatch', '--concurrency', '0'], {
    env: { INTURN_POLL_MS: 'often' },
  })
  expect(code).toBe(2)
  expect(stderr.trim().split('\n')).toEqual([
    'error: --concurrency: write a whole number from 1 to 1000',
    'INTURN_POLL_MS: write a whole number from 10 to 60000',
    'DATABASE_URL is missing: set it, or write --database-url',
    expect.stringContaining('No provider has a key: set OPENAI_API_KEY'),
  ])
})

test('a failure is told in two lines, without the password; the stack only comes with --verbose', async () => {
  const databaseUrl = 'postgres://me:hidden-word@127.0.0.1:1/db'
  const { code, stderr } = await inturn(['status'], { databaseUrl })
  expect(code).toBe(1)
  expect(stderr).toMatch(/^error: Cannot connect to PostgreSQL at 127\.0\.0\.1:1.*\nhint: .*\n$/)
  const verbose = await inturn(['status', '--verbose'], { databaseUrl })
  expect(verbose.stderr).toMatch(/\n {4}at /)
  expect(stderr + verbose.stderr).not.toContain('hidden-word')
})

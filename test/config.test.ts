import { expect, onTestFinished, test } from 'vitest'
import { environmentWith, loadConfig, settingsHelp } from '../src/config.ts'
import { ConfigError } from '../src/errors.ts'

function problemsOf(load: () => unknown): string[] {
  try {
    load()
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return (error as Error).message.split('\n')
  }
  return []
}

test('without flags and environment everything has its default', () => {
  expect(loadConfig({}, {})).toEqual({
    databaseUrl: undefined,
    schema: 'public',
    provider: 'responses',
    concurrency: 20,
    pollMs: 250,
    heartbeatMs: 250,
    graceMs: 1_400,
    leaseMs: 14_000,
    streams: true,
    streamRetentionMs: 3_600_000,
    sweepMs: 500,
    sweeps: true,
    shutdownMs: 30_000,
    callTimeoutMs: 60_000,
    runTimeoutMs: 900_000,
    foreignRunMs: 900_000,
    tools: undefined,
    toolConcurrency: 10,
    toolDeadlineMs: 540_000,
    onToolDeadline: 'answer',
    holdUnknown: [],
    maxAttempts: 5,
    retryBaseMs: 1_000,
    retryMaxMs: 60_000,
    retry: undefined,
    maxRuns: undefined,
    laneProbeMs: 30_000,
    logLevel: 'info',
    logContent: false,
    providers: {},
  })
})

test('a flag wins over the environment, which wins over the default', () => {
  const env = { INTURN_CONCURRENCY: '5', INTURN_POLL_MS: '100', INTURN_LOG_CONTENT: 'true' }
  expect(loadConfig({ concurrency: '7', logContent: false, json: true }, env)).toMatchObject({
    concurrency: 7,
    pollMs: 100,
    logContent: false,
    sweepMs: 500,
    sweeps: true,
  })
})

test('an empty string counts as missing', () => {
  const env = { INTURN_CONCURRENCY: '', OPENAI_API_KEY: '', OPENAI_BASE_URL: '', INTURN_SCHEMA: '' }
  expect(loadConfig({ provider: '' }, env)).toEqual(loadConfig({}, {}))
})

test('all problems are told at once, each by the name it was written under', () => {
  const problems = problemsOf(() =>
    loadConfig(
      { concurrency: '0', schema: 'my schema', provider: 'openai' },
      {
        DATABASE_URL: 'mysql://me:hidden-word@host/db',
        INTURN_POLL_MS: 'often',
        INTURN_LOG_CONTENT: 'maybe',
        INTURN_CONCURENCY: '3',
        OPENAI_BASE_URL: 'localhost:4010',
      },
    ),
  )
  expect(problems).toEqual([
    'INTURN_CONCURENCY is no setting: did you mean INTURN_CONCURRENCY?',
    'DATABASE_URL: write a URL like postgres://user:password@host:5432/database',
    expect.stringMatching(/^--schema: "my schema" is no usable schema name/),
    '--provider: write one of responses, assistants',
    '--concurrency: write a whole number from 1 to 1000',
    'INTURN_POLL_MS: write a whole number from 10 to 60000',
    'INTURN_LOG_CONTENT: write true or false',
    'OPENAI_BASE_URL: write a URL like http://127.0.0.1:4010/v1',
  ])
  expect(problems.join()).not.toContain('hidden-word')
})

test.for(['1001', '2.5', '-1', 'NaN', 'Infinity', '1e400'])(
  'a concurrency of %s is refused',
  (concurrency) => {
    expect(problemsOf(() => loadConfig({ concurrency }, {}))).toEqual([
      '--concurrency: write a whole number from 1 to 1000',
    ])
  },
)

test('a retry policy is JSON, and what is wrong with it is told with what to write', () => {
  const retry = { max_attempts: 3, run: { max_attempts: 2 } }
  expect(loadConfig({}, { INTURN_RETRY: JSON.stringify(retry) }).retry).toEqual(retry)
  expect(loadConfig({ retry: '{}' }, { INTURN_RETRY: 'nonsense' }).retry).toEqual({})
  const write = ': write JSON like {"max_attempts": 5, "run": {"max_attempts": 2}}'
  const problems: Array<[text: string, problem: string]> = [
    ['5 times', '"retry" must be an object'],
    ['5', '"retry" must be an object'],
    ['{"run": {"max_attempts": 0}}', '"run.max_attempts" must be a whole number from 1 to 1000'],
    [
      '{"runs": {}}',
      'unknown key "runs": did you mean "run"? Known are max_attempts, base_ms, max_ms, connection, server, run, internal',
    ],
  ]
  for (const [text, problem] of problems) {
    expect(problemsOf(() => loadConfig({}, { INTURN_RETRY: text }))).toEqual([
      `INTURN_RETRY: ${problem}${write}`,
    ])
  }
})

test('a grace must outlast two missed signs of life, and a lease a grace', () => {
  expect(problemsOf(() => loadConfig({ heartbeatMs: '600' }, {}))).toEqual([
    '--grace-ms is 1400: write at least 1800, three times --heartbeat-ms, so that one late sign of life is no death',
  ])
  expect(problemsOf(() => loadConfig({ leaseMs: '1399' }, {}))).toEqual([
    '--lease-ms is 1399: write at least 1400, what --grace-ms is; the lease counts where nobody can tell whether the connection has ended',
  ])
  const least = { heartbeatMs: '500', graceMs: '1500', leaseMs: '1500' }
  expect(loadConfig(least, {})).toMatchObject({ graceMs: 1500, leaseMs: 1500 })
})

test('what a command needs is told to be missing, and typed as there when it is', () => {
  expect(problemsOf(() => loadConfig({}, {}, ['databaseUrl']))).toEqual([
    'DATABASE_URL is missing: set it, or write --database-url',
  ])
  const databaseUrl = 'postgres://me@127.0.0.1/db'
  const url: string = loadConfig({ databaseUrl }, {}, ['databaseUrl']).databaseUrl
  expect(url).toBe(databaseUrl)
})

test('the Assistants settings fall back to the OpenAI ones, each by itself', () => {
  const openai = { OPENAI_API_KEY: 'key-a', OPENAI_BASE_URL: 'http://a.test/v1' }
  const responses = { apiKey: 'key-a', baseUrl: 'http://a.test/v1', settleMs: 60_000 }
  expect(loadConfig({}, openai).providers).toEqual({ responses, assistants: responses })
  expect(loadConfig({}, { ...openai, ASSISTANTS_BASE_URL: 'http://b.test/v1' }).providers).toEqual({
    responses,
    assistants: { ...responses, baseUrl: 'http://b.test/v1' },
  })
  expect(loadConfig({}, { ASSISTANTS_API_KEY: 'key-b' }).providers).toEqual({
    assistants: { apiKey: 'key-b', baseUrl: undefined, settleMs: 60_000 },
  })
})

test('each provider has a settle time of its own', () => {
  const { providers } = loadConfig({ settleMs: '0' }, { OPENAI_API_KEY: 'key' })
  expect(providers).toMatchObject({ responses: { settleMs: 0 }, assistants: { settleMs: 60_000 } })
  const env = { OPENAI_API_KEY: 'key', ASSISTANTS_SETTLE_MS: '5000' }
  expect(loadConfig({}, env).providers.assistants).toMatchObject({ settleMs: 5_000 })
})

test('the operations that are held where a call stays unknown are a list of their names', () => {
  const held = (text: string) => loadConfig({}, { INTURN_HOLD_UNKNOWN: text }).holdUnknown
  expect(held('add_message, create_run')).toEqual(['add_message', 'create_run'])
  expect(held('')).toEqual([])
  for (const wrong of ['add_messages', 'add_message,,create_run', 'all'])
    expect(problemsOf(() => held(wrong))).toEqual([
      'INTURN_HOLD_UNKNOWN: write one or more of create_thread, add_message, create_run, add_message_and_run, update_thread, hold, archive_thread, rotate_thread, fork_thread, restore_thread, expire_thread, delete_thread, separated by commas',
    ])
})

test('a base URL without a key is refused', () => {
  const env = { OPENAI_BASE_URL: 'http://a.test/v1', ASSISTANTS_BASE_URL: 'http://b.test/v1' }
  expect(problemsOf(() => loadConfig({}, env))).toEqual([
    'OPENAI_BASE_URL is set without OPENAI_API_KEY (the emulator takes any key)',
    'ASSISTANTS_BASE_URL is set without ASSISTANTS_API_KEY (the emulator takes any key)',
  ])
})

test('every setting can be described in a help text', () => {
  expect(settingsHelp.pollMs).toEqual({
    flag: '--poll-ms',
    env: 'INTURN_POLL_MS',
    text: 'longest sleep between two looks for work',
    default: 250,
  })
  expect(settingsHelp.openaiApiKey.env).toBe('OPENAI_API_KEY')
  for (const { text } of Object.values(settingsHelp)) expect(text).not.toBe('')
})

test('a process of ours is given exactly the settings it should have', () => {
  const before = process.env
  process.env = { PATH: '/bin', DATABASE_URL: 'postgres://mine', INTURN_POLL_MS: '10' }
  onTestFinished(() => {
    process.env = before
  })
  expect(environmentWith({ openaiApiKey: 'any', leaseMs: '500' })).toEqual({
    PATH: '/bin',
    OPENAI_API_KEY: 'any',
    INTURN_LEASE_MS: '500',
  })
})

test('who needs a provider is told when none has a key', () => {
  const load = (env: Record<string, string>) => () => loadConfig({}, env, ['providers'])
  expect(problemsOf(load({}))).toEqual([
    expect.stringMatching(/^No provider has a key: set OPENAI/),
  ])
  expect(problemsOf(load({ ASSISTANTS_API_KEY: 'any' }))).toEqual([])
})

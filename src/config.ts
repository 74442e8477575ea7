import { z } from 'zod'
import { ConfigError } from './errors.ts'
import { nearest } from './model/nearest.ts'
import { kindsInLine } from './model/operation.ts'
import { defaultSchema } from './model/schema-name.ts'
import { type ProviderName, providerNames } from './model/thread.ts'
import { deadlinePolicies, toolDeadlineMaxMs } from './model/tool-deadline.ts'
import {
  boolean,
  httpUrl,
  integer,
  listOf,
  oneOf,
  postgresUrl,
  retryPolicy,
  schemaName,
} from './setting-checks.ts'

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/** Every setting: its check, its default, and what it means (times are in milliseconds). */
const settings = {
  databaseUrl: postgresUrl().optional().describe('PostgreSQL to work on, 15 or newer'),
  schema: schemaName().default(defaultSchema).describe('schema that holds our tables'),
  provider: oneOf(providerNames)
    .default('responses')
    .describe('provider of new threads that name none'),
  concurrency: integer(1, 1000).default(20).describe('operations executed at once'),
  pollMs: integer(10, 60_000).default(250).describe('longest sleep between two looks for work'),
  heartbeatMs: integer(20, 60_000).default(250).describe('pause between two signs of life'),
  graceMs: integer(60, 600_000)
    .default(1_400)
    .describe('silence after which a dispatcher without a connection counts as dead'),
  leaseMs: integer(150, 600_000)
    .default(14_000)
    .describe('silence after which any dispatcher counts as dead'),
  sweepMs: integer(10, 60_000).default(500).describe('pause between two sweeps for missed heads'),
  shutdownMs: integer(0, 3_600_000)
    .default(30_000)
    .describe('longest wait for running operations when asked to stop'),
  callTimeoutMs: integer(100, 3_600_000).default(60_000).describe('deadline of a provider request'),
  settleMs: integer(0, 600_000)
    .default(60_000)
    .describe('how long reads of `responses` may lag behind writes'),
  assistantsSettleMs: integer(0, 600_000)
    .default(60_000)
    .describe('how long reads of `assistants` may lag behind writes'),
  runTimeoutMs: integer(100, 86_400_000)
    .default(900_000)
    .describe('longest a run may take before it is cancelled'),
  foreignRunMs: integer(0, 86_400_000)
    .default(900_000)
    .describe('longest wait for a run that somebody else has started'),
  tools: z.string().optional().describe('module with the tools that are run here, like ./tools.ts'),
  toolConcurrency: integer(1, 1000).default(10).describe('tool calls run at once'),
  toolDeadlineMs: integer(1, toolDeadlineMaxMs)
    .default(540_000)
    .describe('time that the tool calls of a run have'),
  onToolDeadline: oneOf(deadlinePolicies)
    .default('answer')
    .describe('what then becomes of those without an output'),
  holdUnknown: listOf(kindsInLine)
    .default([])
    .describe('operations that wait for an operator where a call stays unknown'),
  maxAttempts: integer(1, 1000).default(5).describe('attempts before an operation fails'),
  retryBaseMs: integer(1, 86_400_000)
    .default(1_000)
    .describe('first pause before another attempt; doubles with each'),
  retryMaxMs: integer(1, 86_400_000).default(60_000).describe('longest pause of that kind'),
  retry: retryPolicy()
    .optional()
    .describe('more of it, for classes of errors, as JSON: {"run": {"max_attempts": 2}}'),
  maxRuns: integer(1, 100_000)
    .optional()
    .describe('most runs at once with one API key, in all dispatchers together'),
  maxRunsPerUser: integer(1, 100_000)
    .optional()
    .describe('most runs at once for one user_id, in all dispatchers together'),
  laneProbeMs: integer(100, 3_600_000)
    .default(30_000)
    .describe('pause between two tries of a key that the provider refuses'),
  streams: boolean().default(true).describe('write down what runs say while they go on'),
  streamRetentionMs: integer(0, 2_592_000_000)
    .default(3_600_000)
    .describe('how long that is kept when the operation is over'),
  sweeps: boolean()
    .default(true)
    .describe('take part in expiry and retention, which run once per cluster'),
  logLevel: oneOf(logLevels).default('info').describe('least important level to log'),
  logContent: boolean().default(false).describe('let messages appear in the log'),
  openaiApiKey: z.string().optional().describe('key for OpenAI or what stands in for it'),
  openaiBaseUrl: httpUrl().optional().describe("base URL with the version; default OpenAI's own"),
  assistantsApiKey: z.string().optional().describe('key for `assistants`; default OPENAI_API_KEY'),
  assistantsBaseUrl: httpUrl()
    .optional()
    .describe('base URL for `assistants`; default OPENAI_BASE_URL'),
}

export type SettingName = keyof typeof settings
type Settings = z.output<z.ZodObject<typeof settings>>
type ProviderSettingName =
  | 'settleMs'
  | 'assistantsSettleMs'
  | 'openaiApiKey'
  | 'openaiBaseUrl'
  | 'assistantsApiKey'
  | 'assistantsBaseUrl'

export type Config = Omit<Settings, ProviderSettingName> & {
  /** Only those for which there is a key. */
  providers: Partial<Record<ProviderName, { apiKey: string; baseUrl?: string; settleMs?: number }>>
}

/** How a setting is written on the command line and in the environment, for `--help` and the docs. */
export type SettingHelp = { flag: string; env: string; text: string; default: unknown }

export const settingsHelp = Object.fromEntries(
  Object.entries(settings).map(([name, schema]) => [
    name,
    {
      flag: flagOf(name),
      env: envOf(name),
      text: schema.description ?? '',
      default: schema.safeParse(undefined).data,
    },
  ]),
) as Record<SettingName, SettingHelp>

const knownEnv: ReadonlySet<string> = new Set(Object.keys(settings).map(envOf))

/**
 * Settings from flags (by their camelCase names) and, where a flag is missing, the environment. An
 * empty string counts as missing. Throws one ConfigError with every problem.
 */
export function loadConfig<Required extends keyof Config = never>(
  flags: Readonly<Record<string, unknown>> = {},
  env: Readonly<Record<string, string | undefined>> = process.env,
  required: readonly Required[] = [],
): Config & { [Name in Required]-?: NonNullable<Config[Name]> } {
  const problems = unknownNames(env)
  const values: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(settings)) {
    const flag = given(flags[name])
    const result = schema.safeParse(flag ?? given(env[envOf(name)]))
    if (result.success) values[name] = result.data
    else {
      const written = flag === undefined ? envOf(name) : flagOf(name)
      problems.push(`${written}: ${result.error.issues[0]?.message}`)
    }
  }
  for (const name of required) {
    if (name === 'providers') problems.push(...missingKeys(values as Partial<Settings>))
    else if (given(flags[name]) === undefined && given(env[envOf(name)]) === undefined) {
      problems.push(`${envOf(name)} is missing: set it, or write ${flagOf(name)}`)
    }
  }
  problems.push(...crossProblems(values as Partial<Settings>))
  if (problems.length > 0) throw new ConfigError(problems)
  return toConfig(values as Settings) as ReturnType<typeof loadConfig<Required>>
}

/** The environment for a process of ours: this one's, with exactly `settings` in place of all that is set here. */
export function environmentWith(
  settings: Partial<Record<SettingName, string>>,
): Record<string, string | undefined> {
  const others = Object.entries(process.env).filter(([name]) => !knownEnv.has(name))
  const ours = Object.entries(settings).map(([name, value]) => [envOf(name), value])
  return Object.fromEntries([...others, ...ours])
}

function missingKeys({ openaiApiKey, assistantsApiKey }: Partial<Settings>): string[] {
  if (openaiApiKey || assistantsApiKey) return []
  return [
    'No provider has a key: set OPENAI_API_KEY, or ASSISTANTS_API_KEY for `assistants` alone (the emulator takes any key)',
  ]
}

function toConfig(values: Settings): Config {
  const { openaiApiKey, openaiBaseUrl, settleMs, ...others } = values
  const { assistantsApiKey, assistantsBaseUrl, assistantsSettleMs, ...rest } = others
  const assistantsKey = assistantsApiKey ?? openaiApiKey
  return {
    ...rest,
    providers: {
      ...(openaiApiKey && {
        responses: { apiKey: openaiApiKey, baseUrl: openaiBaseUrl, settleMs },
      }),
      ...(assistantsKey && {
        assistants: {
          apiKey: assistantsKey,
          baseUrl: assistantsBaseUrl ?? openaiBaseUrl,
          settleMs: assistantsSettleMs,
        },
      }),
    },
  }
}

function crossProblems(values: Partial<Settings>): string[] {
  const problems: string[] = []
  const { heartbeatMs, graceMs, leaseMs } = values
  const { openaiApiKey, openaiBaseUrl, assistantsApiKey, assistantsBaseUrl } = values
  if (heartbeatMs && graceMs && graceMs < 3 * heartbeatMs) {
    problems.push(
      `${flagOf('graceMs')} is ${graceMs}: write at least ${3 * heartbeatMs}, three times ${flagOf('heartbeatMs')}, so that one late sign of life is no death`,
    )
  }
  if (graceMs && leaseMs && leaseMs < graceMs) {
    problems.push(
      `${flagOf('leaseMs')} is ${leaseMs}: write at least ${graceMs}, what ${flagOf('graceMs')} is; the lease counts where nobody can tell whether the connection has ended`,
    )
  }
  if (openaiBaseUrl && !openaiApiKey) {
    problems.push('OPENAI_BASE_URL is set without OPENAI_API_KEY (the emulator takes any key)')
  }
  if (assistantsBaseUrl && !assistantsApiKey && !openaiApiKey) {
    problems.push(
      'ASSISTANTS_BASE_URL is set without ASSISTANTS_API_KEY (the emulator takes any key)',
    )
  }
  return problems
}

function unknownNames(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = Object.keys(settings)
    .map(envOf)
    .filter((name) => name.startsWith('INTURN_'))
  return Object.keys(env)
    .filter((name) => name.startsWith('INTURN_') && !known.includes(name))
    .map((name) => `${name} is no setting: did you mean ${nearest(name, known)}?`)
}

const given = (value: unknown) => (value === '' ? undefined : (value ?? undefined))

function words(name: string): string[] {
  return name.split(/(?=[A-Z])/).map((word) => word.toLowerCase())
}

function flagOf(name: string): string {
  return `--${words(name).join('-')}`
}

function envOf(name: string): string {
  const env = words(name).join('_').toUpperCase()
  return /^(DATABASE|OPENAI|ASSISTANTS)_/.test(env) ? env : `INTURN_${env}`
}

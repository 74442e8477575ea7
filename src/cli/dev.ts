import type { Command } from 'commander'
import { migrate } from '../client/migrate.ts'
import { type Config, loadConfig } from '../config.ts'
import { canServeFrom, startEmbedded } from '../db/embedded.ts'
import { startDispatcher } from '../dispatcher/start.ts'
import { startEmulator } from '../emulator/index.ts'
import { InturnError } from '../errors.ts'
import { createLogger } from '../log.ts'
import { devText } from './dev-text.ts'
import { wholeNumber } from './emulator.ts'
import { UsageError } from './failure.ts'
import { untilSignal } from './signals.ts'

export function devCommand(program: Command): void {
  program
    .command('dev')
    .description('a database, a provider and a dispatcher in one process, to try things out')
    .option('--emulator', 'use the emulator, also where there is a key')
    .option('--openai', 'use the provider of OPENAI_API_KEY; the default where that is set')
    .option('--data-dir <folder>', 'where the database keeps its data', '.inturn')
    .option('--fresh', 'forget the data of the last time')
    .option('--port <n>', 'port of the database; default a free one', wholeNumber)
    .addHelpText(
      'after',
      '\nThe database is always its own embedded PostgreSQL: DATABASE_URL is left alone.',
    )
    .action(async (options: DevOptions, command: Command) => {
      const stopped = untilSignal()
      const cleanUp: Array<() => Promise<void>> = []
      try {
        console.log(await start(options, command.optsWithGlobals(), cleanUp))
        await stopped
      } finally {
        for (const step of cleanUp.reverse()) await step()
      }
    })
}

type DevOptions = {
  emulator?: boolean
  openai?: boolean
  dataDir: string
  fresh?: boolean
  port?: number
}

/** Starts everything, with what stops it again in `cleanUp`; returns what to tell the user. */
async function start(
  options: DevOptions,
  flags: Record<string, unknown>,
  cleanUp: Array<() => Promise<void>>,
): Promise<string> {
  const config = readConfig(options, flags)
  const dataDir = (await canServeFrom('.')) ? options.dataDir : undefined
  const { port, fresh } = options
  const database = await startEmbedded({ dataDir, port, fresh }).catch(explain)
  cleanUp.push(() => database.stop())

  const { schema } = config
  await migrate({ databaseUrl: database.url, schema })

  const emulated = isEmulated(options, config)
  if (emulated) {
    const emulator = await startEmulator()
    cleanUp.push(() => emulator.close())
    // Its reads do not lag, and it answers at once or not at all: nobody has to wait for that.
    const settings = { apiKey: 'dev', baseUrl: emulator.url, settleMs: 0 }
    config.callTimeoutMs = Math.min(config.callTimeoutMs, 5_000)
    config.providers = { responses: settings, assistants: settings }
  }
  const log = createLogger({ level: config.logLevel })
  const dispatcher = await startDispatcher({ ...config, databaseUrl: database.url }, log)
  cleanUp.push(() => dispatcher.stop())
  const baseUrl = config.providers.responses?.baseUrl
  return devText({ databaseUrl: database.url, schema, dataDir, emulated, baseUrl })
}

function readConfig(options: DevOptions, flags: Record<string, unknown>): Config {
  if (options.emulator && options.openai) throw new UsageError('Write --emulator or --openai.')
  return options.openai ? loadConfig(flags, undefined, ['providers']) : loadConfig(flags)
}

/** Its own hint is for commands that take DATABASE_URL. */
function explain(error: unknown): never {
  if (!(error instanceof InturnError)) throw error
  const hint =
    'On a PostgreSQL server of your own: "inturn migrate", "inturn emulator", "inturn dispatch".'
  throw new InturnError(error.code, error.message, { hint, cause: error })
}

const isEmulated = ({ emulator, openai }: DevOptions, { providers }: Config) =>
  emulator || (!openai && Object.keys(providers).length === 0)

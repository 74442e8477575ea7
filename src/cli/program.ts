import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { adoptCommand } from './adopt.ts'
import { archivesCommand } from './archives.ts'
import { assistantsCommand } from './assistants.ts'
import { cancelCommand } from './cancel.ts'
import { demoCommand } from './demo.ts'
import { devCommand } from './dev.ts'
import { dispatchCommand } from './dispatch.ts'
import { doctorCommand } from './doctor.ts'
import { emulatorCommand } from './emulator.ts'
import { enqueueCommand } from './enqueue.ts'
import { eraseCommand } from './erase.ts'
import { exportCommand } from './export.ts'
import { exitCodeOf, report } from './failure.ts'
import { lanesCommand } from './lanes.ts'
import { migrateCommand } from './migrate.ts'
import { policiesCommand } from './policies.ts'
import { resumeCommand } from './resume.ts'
import { retryCommand } from './retry.ts'
import { settingOption } from './setting-option.ts'
import { statusCommand } from './status.ts'
import { streamCommand } from './stream.ts'
import { sweepCommand } from './sweep.ts'
import { threadCommand, threadsCommand } from './threads.ts'
import { submitCommand, toolCallsCommand } from './tool-calls.ts'

/** At the same distance from src/cli as from dist/cli. */
const packageFile = new URL('../../package.json', import.meta.url)

/** Runs one command line; returns the exit code: 0 done, 1 failed, 2 written wrongly. */
export async function run(args: readonly string[]): Promise<number> {
  endQuietlyWithoutReader()
  const program = createProgram()
  try {
    await program.parseAsync(args, { from: 'user' })
    return Number(process.exitCode ?? 0)
  } catch (error) {
    report(error, { verbose: program.opts().verbose === true })
    return exitCodeOf(error)
  }
}

function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }
  const program = new Command('inturn')
    .description('Operations on AI conversation threads, one at a time per thread and in order.')
    .version(version)
    .exitOverride()
    .showHelpAfterError('Run it with --help to see what it takes.')
    .configureHelp({ showGlobalOptions: true })
    .helpCommand(false)
    .addOption(settingOption('databaseUrl'))
    .addOption(settingOption('schema'))
    .option('--verbose', 'show the stack of an error')
    .addHelpText('after', introduction)
  program.commandsGroup('To look at it:')
  demoCommand(program)
  devCommand(program)
  emulatorCommand(program)
  program.commandsGroup('To run it:')
  migrateCommand(program)
  dispatchCommand(program)
  sweepCommand(program)
  program.commandsGroup('To use it:')
  enqueueCommand(program)
  cancelCommand(program)
  streamCommand(program)
  statusCommand(program)
  toolCallsCommand(program)
  submitCommand(program)
  retryCommand(program)
  resumeCommand(program)
  archivesCommand(program)
  exportCommand(program)
  eraseCommand(program)
  doctorCommand(program)
  lanesCommand(program)
  assistantsCommand(program)
  threadCommand(program)
  threadsCommand(program)
  policiesCommand(program)
  adoptCommand(program)
  return program
}

const introduction = `
Examples:
  $ inturn demo                          what happens without inturn, and with it
  $ inturn dev                           a database, a provider and a dispatcher to play with
  $ inturn migrate && inturn dispatch    in production, with DATABASE_URL and OPENAI_API_KEY
  $ inturn enqueue user:42 add_message_and_run --message "Hi" --model gpt-5 --wait

Exit codes: 0 done, 1 failed, 2 options or settings are wrong.`

/** `inturn status | head` is no failure. */
function endQuietlyWithoutReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? 0 : 1)
  })
}

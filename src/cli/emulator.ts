import { type Command, InvalidArgumentError } from 'commander'
import { type Fault, parseFaults, startEmulator } from '../emulator/index.ts'
import { InturnError } from '../errors.ts'
import { UsageError } from './failure.ts'
import { untilSignal } from './signals.ts'

export function emulatorCommand(program: Command): void {
  program
    .command('emulator')
    .description('serve the OpenAI API from memory: Assistants, Conversations and Responses')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <n>', 'port to listen on; 0 takes a free one', wholeNumber, 4010)
    .option('--queued-ms <ms>', 'how long a run waits before it is worked on', wholeNumber, 5)
    .option('--think-ms <ms>', 'from then to the first word', wholeNumber, 20)
    .option('--per-token-ms <ms>', 'between two words', wholeNumber, 1)
    .option('--run-expires-ms <ms>', 'after which an unfinished run expires', wholeNumber, 600_000)
    .option('--fault <fault>', 'what goes wrong, see below (repeatable)', collect, [])
    .option('--seed <n>', 'decides where faults with a probability strike', wholeNumber)
    .option('--json', 'print the address as JSON')
    .addHelpText(
      'after',
      `
Any key is accepted. GET /emulator/stats counts requests, runs and the conflicts served;
GET /emulator/threads/:id shows a thread's messages in their true order. GET
/emulator/requests, /emulator/runs and /emulator/conflicts list what has happened.

A fault is its name, then in any order requests, a probability, how often, and settings:
  --fault reset_after_commit:runs.create:0.1   --fault rate_limit:responses:3x:retryAfter=2
  --fault read_lag:items.list:5s               --fault stream_cut:event=4
docs/faults.md has them all; over HTTP they are at /emulator/faults (GET, PUT, DELETE).

Example:
  $ inturn emulator --port 4010 &
  $ OPENAI_BASE_URL=http://127.0.0.1:4010/v1 OPENAI_API_KEY=any \\
      inturn dispatch --call-timeout-ms 5000 --settle-ms 0 --assistants-settle-ms 0
Its reads do not lag unless told to: a lost call need not be waited for as long as a provider's.`,
    )
    .action(async ({ queuedMs, thinkMs, perTokenMs, fault, json, ...options }) => {
      const faults = faultsFrom(fault)
      const stopped = untilSignal()
      const latency = { queuedMs, thinkMs, perTokenMs }
      const emulator = await startEmulator({ ...options, latency, faults }).catch(explain)
      const { url } = emulator
      console.log(
        json
          ? JSON.stringify({ url, port: emulator.port })
          : `Emulator at ${url}; any key will do.${faults.length > 0 ? ` Faults by seed ${emulator.faults.seed}.` : ''} Ctrl-C ends it.`,
      )
      await stopped
      await emulator.close()
    })
}

export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Write a whole number.')
  return Number(text)
}

const collect = (one: string, all: string[]): string[] => [...all, one]

function faultsFrom(texts: readonly string[]): Fault[] {
  try {
    return parseFaults(texts)
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function explain(error: NodeJS.ErrnoException): never {
  if (error.syscall !== 'listen') throw error
  throw new InturnError('emulator_failed', `The emulator cannot listen: ${error.message}`, {
    hint: 'Choose another address with --host and --port; --port 0 takes a free one.',
    cause: error,
  })
}

import { text as readAll } from 'node:stream/consumers'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { Inturn } from '../client/inturn.ts'
import type { JoinOptions, NewOperation } from '../client/new-operation.ts'
import { busyStrategies, operationKinds } from '../model/operation.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { UsageError } from './failure.ts'
import { printStream } from './stream.ts'

export function enqueueCommand(program: Command): void {
  program
    .command('enqueue')
    .description('put one operation into the line of a thread')
    .argument('<thread>', 'id of the thread: any name of yours')
    .argument('<operation>', operationKinds.join(', '))
    .argument('[data]', 'JSON object, or - to read it from standard input')
    .option('--message <text>', 'data.message')
    .option('--assistant <id>', 'data.assistant_id')
    .option('--model <name>', 'data.model')
    .option('--priority <n>', 'among the heads of different threads, from -100 to 100', signed, 0)
    .option('--idempotency-key <key>', 'sent twice for this thread, it is inserted once')
    .option('--retry <json>', 'how failures are retried, like \'{"max_attempts": 3}\'')
    .option('--user <id>', 'on whose behalf')
    .option('--at <time>', 'joins its line then, like 2027-01-31T12:00:00Z', time)
    .addOption(
      new Option('--if-busy <strategy>', 'where the thread is busy').choices(busyStrategies),
    )
    .option('--debounce-ms <ms>', 'start when nothing else came for so long', wholeNumber)
    .option('--debounce-max-ms <ms>', 'longest wait for that', wholeNumber)
    .option('--wait', 'wait for the end and print the answer')
    .option('--stream', 'print the answer while it comes')
    .option('--timeout-ms <ms>', 'longest wait', wholeNumber, 600_000)
    .option('--json', 'print JSON: the id, and with --wait the result')
    .addHelpText('after', examples)
    .action(async (thread, operation, given, options, command: Command) => {
      const { wait, stream, timeoutMs, json } = options
      // The setting has the same name, so config.ts checks what is in it.
      const retry = options.retry && parse(options.retry, '--retry', '{"max_attempts": 3}')
      const data = { ...(await parseData(given)), ...shorthands(options) }
      // The database checks what the types leave open here, and explains what is wrong.
      const row = { ...joining(options), thread, operation, data, retry } as NewOperation
      await withDatabase(command, async ({ pool, config: { schema } }) => {
        await using inturn = new Inturn({ pool, schema })
        const handle = await inturn.enqueue(row)
        if (stream) return await printStream(handle, { json, timeoutMs })
        const result = wait ? await handle.result({ timeoutMs }) : undefined
        const text = result?.text ?? `operation ${handle.id} ${wait ? 'completed' : 'is in line'}`
        console.log(json ? JSON.stringify({ id: handle.id, ...(result && { result }) }) : text)
      })
    })
}

const examples = `
Examples:
  $ inturn enqueue user:42 add_message_and_run --message "Hi" --assistant asst_1 --wait
  $ inturn enqueue user:42 add_message '{"message": "It rains."}'
  $ echo '{"provider": "assistants"}' | inturn enqueue user:42 create_thread -`

async function parseData(given: string | undefined): Promise<Record<string, unknown>> {
  if (given === undefined) return {}
  const text = given === '-' ? await readAll(process.stdin) : given
  const data = parse(text, 'data', '{"message": "Hi"}', ', or - and pipe it in')
  if (typeof data !== 'object' || data === null || Array.isArray(data)) {
    throw new UsageError('data must be a JSON object, like {"message": "Hi"}.')
  }
  return { ...data }
}

function parse(text: string, what: string, example: string, orElse = ''): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new UsageError(
      `${what} is no JSON: ${(error as Error).message}`,
      `Write an object in single quotes, like '${example}'${orElse}.`,
    )
  }
}

function shorthands(options: { message?: string; assistant?: string; model?: string }) {
  const { message, assistant: assistant_id, model } = options
  const given = Object.entries({ message, assistant_id, model })
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}

function joining(options: JoinOptions & { user?: string; at?: Date }): JoinOptions {
  const { priority, idempotencyKey, user, at, ifBusy, debounceMs, debounceMaxMs } = options
  return {
    priority,
    idempotencyKey,
    userId: user,
    scheduledAt: at,
    ifBusy,
    debounceMs,
    debounceMaxMs,
  }
}

function time(text: string): Date {
  const date = new Date(text)
  if (!Number.isNaN(date.getTime())) return date
  throw new InvalidArgumentError('Write a time like 2027-01-31T12:00:00Z.')
}

function signed(text: string): number {
  return text.startsWith('-') ? -wholeNumber(text.slice(1)) : wholeNumber(text)
}

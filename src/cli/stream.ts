import type { Command } from 'commander'
import { ResultTimeoutError } from '../client/errors.ts'
import { Inturn } from '../client/inturn.ts'
import type { OperationHandle } from '../client/operation-handle.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { operationId } from './retry.ts'

export function streamCommand(program: Command): void {
  program
    .command('stream')
    .description('show what an operation says, while it says it')
    .argument('<operation>', 'its number, as "inturn enqueue" prints it', operationId)
    .option('--from <n>', 'the first event wanted, one more than the last one seen', wholeNumber, 1)
    .option('--json', 'print each event as a line of JSON')
    .action((id: number, options: PrintOptions, command: Command) =>
      withDatabase(command, async ({ pool, config: { schema } }) => {
        await using inturn = new Inturn({ pool, schema })
        await printStream(await inturn.operation(id), options)
      }),
    )
}

type PrintOptions = { from?: number; json?: boolean; timeoutMs?: number }

/** Prints what an operation says until it is over. Throws what its `result` throws. */
export async function printStream(
  handle: OperationHandle,
  { from = 1, json, timeoutMs }: PrintOptions,
): Promise<void> {
  const late = new AbortController()
  const result = handle.result({ timeoutMs })
  result.catch((error) => {
    if (error instanceof ResultTimeoutError) late.abort(error)
  })
  let last = ''
  try {
    for await (const event of handle.stream({ from, signal: late.signal })) {
      if (json) console.log(JSON.stringify(event))
      else if (event.type === 'tool_call') console.error(`[calls ${event.name}]`)
      else if (event.type === 'restarted') console.error('\n[void: another run begins anew]')
      else if (event.type === 'text') process.stdout.write((last = event.delta))
    }
  } finally {
    if (last !== '' && !last.endsWith('\n')) console.log()
  }
  const { text } = await result
  // Streams are kept for a short time, the answer stays.
  if (!json && last === '' && from === 1 && text) console.log(text)
}

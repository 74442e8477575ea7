import type { Command } from 'commander'
import { Inturn } from '../client/inturn.ts'
import type { OperationResult } from '../model/outcome.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { operationId } from './retry.ts'

export function cancelCommand(program: Command): void {
  program
    .command('cancel')
    .description('end the operation that is active on a thread, or any that is not over')
    .argument('<thread>', 'id of the thread')
    .argument('[operation]', 'its number; default: the one that is active now', operationId)
    .option('--reason <text>', 'why, for the error of what is cancelled')
    .option('--wait', 'wait until it is over, and say how it ended')
    .option('--timeout-ms <ms>', 'longest wait', wholeNumber, 600_000)
    .option('--json', 'print JSON: the id, and with --wait the result')
    .addHelpText('after', examples)
    .action(async (thread, operation, options, command: Command) => {
      const { reason, wait, timeoutMs, json } = options
      await withDatabase(command, async ({ pool, config: { schema } }) => {
        await using inturn = new Inturn({ pool, schema })
        const asked = await inturn.thread(thread).cancel({ operationId: operation, reason })
        const result = wait ? await asked.result({ timeoutMs }) : undefined
        const text = result ? told(result) : `operation ${asked.id} asks for it`
        console.log(json ? JSON.stringify({ id: asked.id, ...(result && { result }) }) : text)
      })
    })
}

const examples = `
The run is cancelled at the provider; its operation is cancelled when the run is really over. One that
still waits is taken out of its line.
The same by SQL: INSERT INTO thread_operations (thread_id, operation) VALUES ('user:42', 'cancel_run');

Examples:
  $ inturn cancel user:42 --wait       the stop button
  $ inturn cancel user:42 7            operation 7, whatever it is doing`

function told({ outcome, operation_id: id }: OperationResult): string {
  if (outcome === 'nothing_to_do')
    return id === undefined ? 'nothing was active' : `operation ${id} was over`
  if (outcome === 'cancelled') return `operation ${id} was cancelled`
  return `operation ${id} ${outcome} all the same`
}

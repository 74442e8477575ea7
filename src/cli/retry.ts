import { type Command, InvalidArgumentError, Option } from 'commander'
import { retryOperation } from '../store/retry-operation.ts'
import { withDatabase } from './database.ts'

export function retryCommand(program: Command): void {
  const place = new Option(
    '--at <place>',
    'head: before all who wait; tail: at the end of the line',
  )
  program
    .command('retry')
    .description('send a failed or cancelled operation back into its line')
    .argument(
      '<id>',
      'of the operation; "inturn status --failed" lists those that failed',
      operationId,
    )
    .addOption(place.choices(['head', 'tail']).makeOptionMandatory())
    .option('--json', 'print JSON')
    .addHelpText('after', "\nThe same by SQL: select * from retry_operation(7, 'head').")
    .action((id: number, { at, json }: { at: string; json?: boolean }, command: Command) =>
      withDatabase(command, async (database) => {
        const { threadId } = await retryOperation(database, id, at)
        const text = `operation ${id} is at the ${at} of the line of thread ${threadId}`
        console.log(json ? JSON.stringify({ id, at, threadId }) : text)
      }),
    )
}

/** The number of an operation, as an argument. */
export function operationId(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Write the number of an operation.')
  return Number(text)
}

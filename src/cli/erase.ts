import type { Command } from 'commander'
import { Inturn } from '../client/inturn.ts'
import { countOfUser, type ErasureReport } from '../store/erasures.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { UsageError } from './failure.ts'

export function eraseCommand(program: Command): void {
  program
    .command('erase')
    .description('have a person forgotten: conversations, archives, and what operations hold')
    .argument('<user-id>', 'as in threads.user_id and thread_operations.user_id')
    .option('--yes', 'do it; nothing of it can be brought back')
    .option('--no-wait', 'do not wait until it is over')
    .option('--timeout-ms <ms>', 'longest wait', wholeNumber, 3_600_000)
    .option('--json', 'print the report as JSON')
    .addHelpText('after', help)
    .action(async (userId: string, options, command: Command) => {
      const { yes, wait, timeoutMs, json } = options
      await withDatabase(command, async (database) => {
        if (!yes) {
          const threads = await countOfUser(database, userId)
          throw new UsageError(
            `this deletes ${threads} thread${threads === 1 ? '' : 's'} of user ${userId} for good, at the provider and here`,
            'Add --yes to do it.',
          )
        }
        const { pool, config } = database
        await using inturn = new Inturn({ pool, schema: config.schema })
        const erasure = await inturn.eraseUser(userId)
        if (!wait) {
          console.log(
            json ? JSON.stringify({ id: erasure.id }) : `erasure ${erasure.id} is under way`,
          )
          return
        }
        const report = await erasure.report({
          timeoutMs,
          onProgress: ({ deletions: { over, of }, unfinished }) =>
            process.stderr.write(
              `${over} of ${of} threads deleted, ${unfinished} operations to wait for\n`,
            ),
        })
        console.log(json ? JSON.stringify(report) : told(report))
        if (report.not_proved.length > 0) process.exitCode = 1
      })
    })
}

const help = `
Asked again while it is under way, it waits for the same. The report stays in the table erasures. Exit
code 1: something could not be proved to be gone; the report says what, and why.
The same by SQL: select erase_user('42').

Example:
  $ inturn erase 42 --yes --json > report.json`

function told({
  user_id,
  threads,
  operations,
  archives,
  not_proved,
  not_covered,
}: ErasureReport): string {
  const gone = threads.flatMap(({ thread_id, deleted }) =>
    deleted.map(
      ({ provider_thread_id, items, gone_at }) =>
        `  ${thread_id}: ${provider_thread_id} and ${items} items, gone at ${gone_at}`,
    ),
  )
  return [
    `user ${user_id}: ${threads.length} threads, ${operations} operations emptied, ${archives} archives with that user_id deleted`,
    ...section('proved to be gone:', gone),
    ...section(
      'not proved:',
      not_proved.map(({ what, why }) => `  ${what}: ${why}`),
    ),
    ...section(
      'not within reach:',
      not_covered.map((what) => `  ${what}`),
    ),
  ].join('\n')
}

const section = (heading: string, lines: string[]): string[] =>
  lines.length > 0 ? [heading, ...lines] : []

import type { Command } from 'commander'
import { type Swept, sweep } from '../lifecycle/sweep.ts'
import { withDatabase } from './database.ts'
import { count } from './table.ts'

export function sweepCommand(program: Command): void {
  program
    .command('sweep')
    .description('do now, once, what policies ask for: expiry and retention')
    .option('--json', 'print JSON')
    .addHelpText('after', notes)
    .action((options: { json?: boolean }, command: Command) =>
      withDatabase(command, async ({ pool }) => {
        const swept = await sweep({ pool })
        console.log(options.json ? JSON.stringify(swept) : formatSwept(swept))
      }),
    )
}

const notes = `
Dispatchers do the same every minute, once per cluster, unless started with --sweeps false. It needs no
dispatcher and may run at any time, also beside them; what it asks for is done by dispatchers.`

function formatSwept(swept: Swept): string {
  const { expiries_requested, expiries_under_way, operations_pruned, archives_pruned } = swept
  return [
    `expiry: asked for the end of ${count(expiries_requested, 'conversation')} (${expiries_under_way} under way)`,
    `retention: deleted ${count(operations_pruned, 'operation')} and ${count(archives_pruned, 'archive')}`,
    ...swept.near_limit.map(({ thread_id, warning }) => `warning: ${thread_id} holds ${warning}`),
  ].join('\n')
}

import type { Command } from 'commander'
import { resumeThread } from '../store/resume-thread.ts'
import { withDatabase } from './database.ts'

export function resumeCommand(program: Command): void {
  program
    .command('resume')
    .description(
      'let a thread go on that is halted after a failure, or whose first operation is held',
    )
    .argument('<thread>', 'id of the thread')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
A held operation is served again; where the outcome of its call is unknown, it is sent again if nothing
is found of it. To give it up instead, cancel it: UPDATE thread_operations SET status = 'cancelled' …
The same by SQL: select * from resume_thread('user:42').`,
    )
    .action((threadId: string, options: { json?: boolean }, command: Command) =>
      withDatabase(command, async (database) => {
        const resumed = await resumeThread(database, threadId)
        const { operationId, was } = resumed
        const text =
          was === 'held'
            ? `operation ${operationId} is served again`
            : `thread ${threadId} goes on after operation ${operationId}, which failed`
        console.log(options.json ? JSON.stringify(resumed) : text)
      }),
    )
}

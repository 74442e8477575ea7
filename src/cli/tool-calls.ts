import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import { Inturn } from '../client/inturn.ts'
import { readOpenCalls, type ToolCallRecord } from '../store/tool-call-records.ts'
import { withDatabase } from './database.ts'
import { formatTable } from './table.ts'

export function toolCallsCommand(program: Command): void {
  program
    .command('tool-calls')
    .description('the tool calls that wait for an output')
    .argument('[thread]', 'id of the thread; default: all')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nThe same by SQL: select * from tool_calls where output is null.')
    .action((threadId: string | undefined, options: { json?: boolean }, command: Command) =>
      withDatabase(command, async (database) => {
        const calls = await readOpenCalls(database, threadId ?? null)
        console.log(options.json ? JSON.stringify(calls) : formatCalls(calls))
      }),
    )
}

export function submitCommand(program: Command): void {
  program
    .command('submit')
    .description('answer a tool call; its run goes on when all calls of the round have an output')
    .argument('<thread>', 'id of the thread')
    .argument('<call>', 'id of the call, as `inturn tool-calls` shows it')
    .argument('<output>', 'text that the model reads, or - to read it from standard input')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Several at once, or content parts: inturn enqueue <thread> submit_tool_outputs
  '{"outputs": [{"call_id": "call_1", "output": "21 degrees"}]}'`,
    )
    .action((threadId, call_id, given, options, command: Command) =>
      withDatabase(command, async ({ pool, config: { schema } }) => {
        await using inturn = new Inturn({ pool, schema })
        const output = given === '-' ? await readAll(process.stdin) : given
        const { id } = await inturn.thread(threadId).submitToolOutputs([{ call_id, output }])
        console.log(options.json ? JSON.stringify({ id }) : `operation ${id} answers ${call_id}`)
      }),
    )
}

function formatCalls(calls: readonly ToolCallRecord[]): string {
  if (calls.length === 0) return 'No call waits for an output.'
  const titles = ['thread', 'operation', 'call', 'tool', 'until', 'run by', 'arguments']
  const rows = calls.map((call) => [
    call.thread_id,
    call.operation_id,
    call.call_id,
    call.name,
    call.deadline.toISOString(),
    call.claimed_by,
    call.arguments,
  ])
  return formatTable(titles, rows)
}

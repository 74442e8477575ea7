import { type Command, InvalidArgumentError, Option } from 'commander'
import { Inturn } from '../client/inturn.ts'
import type { ThreadKeys } from '../store/thread-keys.ts'
import type { ThreadStats } from '../store/thread-stats.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { formatTable } from './table.ts'

export function threadCommand(program: Command): void {
  keyOptions(program.command('thread'))
    .description('print the id of the thread with these keys, which is created where there is none')
    .option('--json', 'print JSON: all there is to know of it')
    .addHelpText('after', threadNotes)
    .action((options, command: Command) =>
      withDatabase(command, async ({ pool, config: { schema } }) => {
        await using inturn = new Inturn({ pool, schema })
        const thread = await inturn.thread(keysOf(options))
        console.log(options.json ? JSON.stringify(await thread.stats()) : thread.id)
      }),
    )
}

const threadNotes = `
Labels are for a new thread; one that is there keeps its own.

Example:
  $ inturn enqueue "$(inturn thread --user 42 --topic billing)" add_message --message "Hi"

The same by SQL: select id from get_thread(p_user_id => '42', p_topic => 'billing');`

export function threadsCommand(program: Command): void {
  keyOptions(program.command('threads'))
    .description('list threads by their keys, labels and state, with what there is to know of them')
    .addOption(new Option('--state <state>', 'only those that are in it').choices(states))
    .option('--limit <n>', 'at most so many', wholeNumber, 100)
    .option('--after <thread>', 'only those behind this one: the last of the page before')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe same by SQL: select * from thread_stats where thread_id > … order by thread_id limit 100;',
    )
    .action((options, command: Command) =>
      withDatabase(command, async ({ pool, config: { schema } }) => {
        const { state, limit, after, json } = options
        await using inturn = new Inturn({ pool, schema })
        const page = await inturn.threads({ ...keysOf(options), state, limit, after })
        console.log(json ? JSON.stringify(page) : formatThreads(page, limit))
      }),
    )
}

const states = [
  'idle',
  'active',
  'requires_action',
  'held',
  'halted',
  'expired',
  'closed',
  'deleted',
] satisfies Array<ThreadStats['state']>

/** What threads are found by: the same wherever they are named. */
export const keyOptions = (command: Command): Command =>
  command
    .option('--user <id>', 'whose it is')
    .option('--session <id>', 'which session it belongs to')
    .option('--topic <name>', 'what it is about')
    .option('--label <name=value>', 'a label, once for each; JSON values as such', label, {})

export const keysOf = ({
  user,
  session,
  topic,
  label: labels,
}: ThreadKeys & { label: Record<string, unknown> }): ThreadKeys => ({
  user,
  session,
  topic,
  ...(Object.keys(labels).length > 0 && { labels }),
})

function label(text: string, others: Record<string, unknown>): Record<string, unknown> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('Write it like team=red.')
  return { ...others, [text.slice(0, at)]: jsonOrText(text.slice(at + 1)) }
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function formatThreads(threads: readonly ThreadStats[], limit: number): string {
  if (threads.length === 0) return 'There is no such thread.'
  const rows = threads.map((thread) => [
    thread.thread_id,
    thread.state,
    thread.waiting,
    thread.messages,
    thread.runs,
    thread.input_tokens + thread.output_tokens,
    thread.generation,
    thread.policy,
    thread.expires_at && `${utc(thread.expires_at)} (${thread.expires_because})`,
    utc(thread.last_active_at),
    thread.warning,
  ])
  const titles = [
    'THREAD',
    'STATE',
    'WAITING',
    'MESSAGES',
    'RUNS',
    'TOKENS',
    'GENERATION',
    'POLICY',
  ]
  titles.push('EXPIRES (UTC)', 'LAST ACTIVE (UTC)', 'WARNING')
  const more = threads.length === limit ? `\n\nMore: --after ${threads.at(-1)?.thread_id}` : ''
  return `${formatTable(titles, rows)}${more}`
}

const utc = (at: Date) => at.toISOString().slice(0, 16).replace('T', ' ')

import type { Database } from '../db/query.ts'
import type { ThreadKeys } from './thread-keys.ts'
import type { ThreadState } from './thread-views.ts'

/** A row of the view `thread_stats`; prisma/schema.prisma says what each column means. */
export type ThreadStats = Omit<ThreadState, 'metadata' | 'created_at'> & {
  user_id: string | null
  session_id: string | null
  topic: string | null
  labels: Record<string, unknown>
  metadata: Record<string, string>
  generation: number
  generation_since: Date | null
  copied_from: string | null
  policy: string | null
  /** In the provider thread that it has now. */
  messages: number
  /** As messages. */
  tokens: number
  messages_total: number
  runs: number
  input_tokens: number
  output_tokens: number
  active_run_id: string | null
  last_active_at: Date
  expires_at: Date | null
  expires_because: 'idle' | 'absolute' | null
  rotates_at_messages: number | null
  rotates_at_tokens: number | null
  rotates_after: Date | null
  warning: string | null
  archives: number
  last_archive_id: number | null
  last_archived_at: Date | null
  created_at: Date
}

/** Which threads to list; what is left out does not matter. */
export type ThreadFilter = ThreadKeys & {
  /** Looked at from thread to thread, so a rare one among many takes its time. */
  state?: ThreadState['state']
  /** At most so many; default 100. */
  limit?: number
  /** Only those whose id comes behind this one: the last of the page before. */
  after?: string
}

const numbers = [
  'generation',
  'messages',
  'tokens',
  'messages_total',
  'runs',
  'input_tokens',
  'output_tokens',
  'waiting',
  'active_operation_id',
  'rotates_at_messages',
  'rotates_at_tokens',
  'archives',
  'last_archive_id',
] as const

const dates = [
  'generation_since',
  'active_since',
  'last_run_finished_at',
  'last_active_at',
  'expires_at',
  'rotates_after',
  'last_archived_at',
  'created_at',
] as const

/** Null for a thread without a row: of which nothing was ever started. */
export async function readThreadStats(
  { query, schema }: Database,
  threadId: string,
): Promise<ThreadStats | null> {
  const [row] = await query(`select * from ${schema}.thread_stats where thread_id = $1::text`, [
    threadId,
  ])
  return row ? readable(row) : null
}

/** A page of threads by their ids, in the order of the database's collation. */
export async function listThreadStats(
  { query, schema }: Database,
  { user, session, topic, labels, state, limit = 100, after }: ThreadFilter,
): Promise<ThreadStats[]> {
  const values: unknown[] = []
  const conditions = (given: ReadonlyArray<readonly [condition: string, value: unknown]>) =>
    given
      .filter(([, value]) => value !== undefined)
      .map(([condition, value]) => `${condition}$${values.push(value)}`)
      .join(' and ') || 'true'
  const which = (id: string) =>
    conditions([
      [`${id} > `, after],
      ['user_id = ', user],
      ['session_id = ', session],
      ['topic = ', topic],
      ['labels @> ', labels && JSON.stringify(labels)],
      ['state = ', state],
    ])
  const stats = `select * from ${schema}.thread_stats`
  // The page first, so that all the rest is looked up for its threads alone; a state is part of the rest.
  const text =
    state === undefined
      ? `${stats} where thread_id = any (array(
           select id from ${schema}.threads where ${which('id')} order by id limit $${values.push(limit)}))
         order by thread_id`
      : `${stats} where ${which('thread_id')} order by thread_id limit $${values.push(limit)}`
  const rows = await query(text, values)
  return rows.map(readable)
}

/** A caller's own pool may have other ideas of what a bigint or a timestamp becomes. */
function readable(row: Record<string, any>): ThreadStats {
  const set = (columns: readonly string[], as: (value: any) => unknown) =>
    columns.map((column) => [column, row[column] === null ? null : as(row[column])])
  return {
    ...row,
    ...Object.fromEntries([...set(numbers, Number), ...set(dates, (at) => new Date(at))]),
  } as ThreadStats
}

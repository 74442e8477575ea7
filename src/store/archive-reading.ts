import type { Database } from '../db/query.ts'
import type { ProviderName } from '../model/thread.ts'

/** A row of `thread_archives`; prisma/schema.prisma says what each column means. */
export type Archive = {
  id: number
  thread_id: string
  generation: number
  operation_id: number
  provider: ProviderName
  provider_thread_id: string
  user_id: string | null
  reason: string
  /** Number of messages. */
  messages: number
  /** Number of items, messages included. */
  items: number
  last_item_id: string | null
  /** Number of runs. */
  runs: number
  input_tokens: number | null
  output_tokens: number | null
  metadata: Record<string, string>
  verified_at: Date
  archived_at: Date
}

/** A row of `archived_messages`. */
export type ArchivedMessage = {
  /** 1, 2, 3 … without gaps. */
  position: number
  item_id: string
  type: string
  role: string | null
  text: string | null
  content: ReadonlyArray<Record<string, unknown>> | null
  attachments: string[]
  run_id: string | null
  metadata: Record<string, string> | null
  said_at: Date | null
  /** All of it, as the provider gave it. */
  item: Record<string, unknown>
}

/** A row of `archived_runs`. */
export type ArchivedRun = {
  turn: number
  operation_id: number
  run_id: string | null
  status: string | null
  model: string | null
  usage: Record<string, number> | null
  user_id: string | null
  started_at: Date | null
  finished_at: Date | null
}

export type ArchiveFilter = {
  thread?: string
  user?: string
  /** Only those with a lower number: that of the last one seen, to go on behind it. */
  before?: number
  /** Most of them. Default 100. */
  limit?: number
}

const archiveColumns = `id, thread_id, generation, operation_id, provider, provider_thread_id, user_id, reason, messages, items,
  last_item_id, runs, input_tokens, output_tokens, metadata, verified_at, archived_at`

/** Archives, the newest first. */
export async function listArchives(
  { query, schema }: Database,
  { thread, user, before, limit = 100 }: ArchiveFilter = {},
): Promise<Archive[]> {
  const rows = await query(
    `select ${archiveColumns} from ${schema}.thread_archives
      where ($1::text is null or thread_id = $1) and ($2::text is null or user_id = $2) and ($3::bigint is null or id < $3)
      order by id desc limit $4::int`,
    [thread ?? null, user ?? null, before ?? null, limit],
  )
  return rows.map(toArchive)
}

/** The newest archive of each provider thread of a thread, the first of these first. */
export async function archivesOfGenerations(
  { query, schema }: Database,
  thread: string,
): Promise<Archive[]> {
  const rows = await query(
    `select distinct on (generation) ${archiveColumns} from ${schema}.thread_archives
      where thread_id = $1::text order by generation, id desc`,
    [thread],
  )
  return rows.map(toArchive)
}

export async function findArchive(
  { query, schema }: Database,
  id: number,
): Promise<Archive | null> {
  const [row] = await query(
    `select ${archiveColumns} from ${schema}.thread_archives where id = $1::bigint`,
    [id],
  )
  return row ? toArchive(row) : null
}

/** Up to `limit` items behind a position, in order. */
export async function readArchivedMessages(
  { query, schema }: Database,
  archiveId: number,
  after: number,
  limit: number,
): Promise<ArchivedMessage[]> {
  const rows = await query(
    `select position, item_id, type, role, text, content, attachments, run_id, metadata, said_at, item
       from ${schema}.archived_messages
      where archive_id = $1::bigint and position > $2::bigint order by position limit $3::int`,
    [archiveId, after, limit],
  )
  return rows.map((row) => ({
    ...row,
    position: Number(row.position),
    said_at: date(row.said_at),
  }))
}

/** Up to `limit` runs behind a turn, in order. */
export async function readArchivedRuns(
  { query, schema }: Database,
  archiveId: number,
  afterTurn: number,
  limit: number,
): Promise<ArchivedRun[]> {
  const rows = await query(
    `select turn, operation_id, run_id, status, model, usage, user_id, started_at, finished_at
       from ${schema}.archived_runs
      where archive_id = $1::bigint and turn > $2::bigint order by turn limit $3::int`,
    [archiveId, afterTurn, limit],
  )
  return rows.map((row) => ({
    ...row,
    turn: Number(row.turn),
    operation_id: Number(row.operation_id),
    started_at: date(row.started_at),
    finished_at: date(row.finished_at),
  }))
}

const toArchive = (row: Record<string, any>): Archive =>
  ({
    ...row,
    id: Number(row.id),
    operation_id: Number(row.operation_id),
    messages: Number(row.messages),
    items: Number(row.items),
    runs: Number(row.runs),
    input_tokens: number(row.input_tokens),
    output_tokens: number(row.output_tokens),
    verified_at: date(row.verified_at),
    archived_at: date(row.archived_at),
  }) as Archive

// A caller's own pool may have other ideas of what a bigint or a timestamp becomes.
const number = (value: string | number | bigint | null) => (value === null ? null : Number(value))
const date = (value: Date | string | null) => (value === null ? null : new Date(value))

import type { Database } from '../db/query.ts'

/** Columns of `thread_policies` and their types; prisma/schema.prisma says what each one means. */
const columns = {
  pattern: 'text',
  absolute_ttl: 'interval',
  idle_ttl: 'interval',
  on_expiry: 'text',
  max_messages: 'bigint',
  max_age: 'interval',
  max_tokens: 'bigint',
  carry_over: 'integer',
  delete_rotated: 'boolean',
  archive_on_delete: 'boolean',
  reopen: 'boolean',
  archive_retention: 'interval',
  operation_retention: 'interval',
} as const

export type PolicySetting = keyof typeof columns
export const policySettings = Object.keys(columns) as PolicySetting[]

/** A row of `thread_policies`, times as PostgreSQL writes them: `30 days`, `1 year 02:00:00`. */
export type Policy = {
  name: string
  pattern: string | null
  absolute_ttl: string | null
  idle_ttl: string | null
  on_expiry: 'archive_and_delete' | 'archive' | 'delete'
  max_messages: number | null
  max_age: string | null
  max_tokens: number | null
  carry_over: number
  delete_rotated: boolean
  archive_on_delete: boolean
  reopen: boolean
  archive_retention: string | null
  operation_retention: string | null
}

export type PolicyOfThread = {
  /** The policy that the thread names itself; null: none. */
  named: string | null
  /** Which keys the thread has: `user`, `user+topic`, …, `none`. */
  keys: string
  /** The policy that counts; null: none. */
  policy: Policy | null
}

const all = [
  'name',
  ...policySettings.map((name) => (columns[name] === 'interval' ? `${name}::text` : name)),
].join(', ')

export async function listPolicies({ query, schema }: Database): Promise<Policy[]> {
  const rows = await query(`select ${all} from ${schema}.thread_policies order by name`)
  return rows.map(readable)
}

/**
 * Writes the settings that are given, as text in PostgreSQL's notation or null, of a new policy or one
 * that is there: all others stay, or are the column's default. It counts from now on. True: it is new.
 */
export async function savePolicy(
  { query, schema }: Database,
  name: string,
  settings: Partial<Record<PolicySetting, string | null>>,
): Promise<boolean> {
  const given = policySettings.filter((setting) => settings[setting] !== undefined)
  const changes = given.map((setting) => `${setting} = excluded.${setting}`)
  const [row] = await query(
    `insert into ${schema}.thread_policies (${['name', ...given]})
     values (${['$1::text', ...given.map((setting, i) => `$${i + 2}::text::${columns[setting]}`)]})
     on conflict (name) do update set ${changes.length > 0 ? changes : 'name = excluded.name'}
     returning xmax = 0 as is_new`,
    [name, ...given.map((setting) => settings[setting])],
  )
  return row.is_new
}

/** False: there was none. Refused while a thread names it (`policy_is_not_in_use`). */
export async function removePolicy({ query, schema }: Database, name: string): Promise<boolean> {
  const removed = await query(
    `delete from ${schema}.thread_policies where name = $1::text returning name`,
    [name],
  )
  return removed.length > 0
}

/** Which policy counts for a thread, and why; null where there is no row of the thread. */
export async function policyOfThread(
  { query, schema }: Database,
  threadId: string,
): Promise<PolicyOfThread | null> {
  const [row] = await query(
    `select t.policy as named, ${schema}.pattern_of(t.user_id, t.session_id, t.topic) as keys,
            (select p.name from ${schema}.policy_of(t.policy, t.user_id, t.session_id, t.topic) as p) as counts
       from ${schema}.threads t where t.id = $1::text`,
    [threadId],
  )
  if (!row) return null
  const policy = (await listPolicies({ query, schema })).find(({ name }) => name === row.counts)
  return { named: row.named, keys: row.keys, policy: policy ?? null }
}

const readable = (row: Record<string, any>): Policy =>
  ({
    ...row,
    max_messages: row.max_messages === null ? null : Number(row.max_messages),
    max_tokens: row.max_tokens === null ? null : Number(row.max_tokens),
  }) as Policy

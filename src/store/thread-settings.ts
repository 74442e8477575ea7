import type { Database } from '../db/query.ts'
import type { BusyStrategy } from '../model/operation.ts'

/** How a thread treats its operations; what is left out stays as it is. */
export type ThreadSettings = {
  /** How the line goes on when an operation has failed. Default `continue`. */
  onFailure?: 'continue' | 'halt' | 'cancel_rest'
  /** What becomes of a message or a run that says nothing of its own while the thread is busy. Default `enqueue`. */
  ifBusy?: BusyStrategy
  /** Pause without a new operation after which one that says nothing of its own starts, in milliseconds; null: none. */
  debounceMs?: number | null
  /** Longest wait for that, in milliseconds; null: ten times `debounceMs`. */
  debounceMaxMs?: number | null
  /** Whose thread it is; null: nobody's. Its id stays as it is, so `inturn.thread({ user })` finds it by the old key. */
  user?: string | null
  /** Which session's; null: none's. */
  session?: string | null
  /** What it is about; null: nothing. */
  topic?: string | null
  /** Labels to set; one that is null is taken out, and others stay. */
  labels?: Record<string, unknown>
  /** Name of its policy; null: that of its pattern. */
  policy?: string | null
}

const columns = {
  onFailure: { name: 'on_failure', type: 'text' },
  ifBusy: { name: 'if_busy', type: 'text' },
  debounceMs: { name: 'debounce_ms', type: 'integer' },
  debounceMaxMs: { name: 'debounce_max_ms', type: 'integer' },
  user: { name: 'user_id', type: 'text' },
  session: { name: 'session_id', type: 'text' },
  topic: { name: 'topic', type: 'text' },
  labels: { name: 'labels', type: 'jsonb' },
  policy: { name: 'policy', type: 'text' },
} as const

/** Writes the settings of a thread, whether or not anything has happened on it. */
export async function saveThreadSettings(
  { query, schema }: Database,
  threadId: string,
  settings: ThreadSettings,
): Promise<void> {
  const keys = Object.keys(columns) as Array<keyof ThreadSettings>
  const given = keys.filter((key) => settings[key] !== undefined)
  if (given.length === 0) return
  const named = given.map((key) => columns[key].name)
  const values = given.map((key, i) => {
    const value = `$${i + 2}::${columns[key].type}`
    return key === 'labels' ? `${schema}.merged_labels('{}', ${value})` : value
  })
  const changes = named.map((name, i) =>
    name === 'labels'
      ? `labels = ${schema}.merged_labels(threads.labels, $${i + 2}::jsonb)`
      : `${name} = excluded.${name}`,
  )
  await query(
    `insert into ${schema}.threads (id, ${named}) values ($1::text, ${values})
     on conflict (id) do update set ${changes}, updated_at = clock_timestamp()`,
    [
      threadId,
      ...given.map((key) => (key === 'labels' ? JSON.stringify(settings.labels) : settings[key])),
    ],
  )
}

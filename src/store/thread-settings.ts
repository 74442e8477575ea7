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
}

const columns = {
  onFailure: { name: 'on_failure', type: 'text' },
  ifBusy: { name: 'if_busy', type: 'text' },
  debounceMs: { name: 'debounce_ms', type: 'integer' },
  debounceMaxMs: { name: 'debounce_max_ms', type: 'integer' },
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
  const named = given.map((key) => columns[key])
  await query(
    `insert into ${schema}.threads (id, ${named.map(({ name }) => name)})
     values ($1::text, ${named.map(({ type }, i) => `$${i + 2}::${type}`)})
     on conflict (id) do update
        set ${named.map(({ name }) => `${name} = excluded.${name}`)}, updated_at = clock_timestamp()`,
    [threadId, ...given.map((key) => settings[key])],
  )
}

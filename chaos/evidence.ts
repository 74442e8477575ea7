import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import type { Emulator } from '../src/emulator/index.ts'
import type { Offender } from './offender.ts'

/** Writes down, beside the database, what the provider knows of every thread that something is wrong with. */
export async function keepEvidence(
  folder: string,
  pool: pg.Pool,
  emulator: Emulator,
  offenders: readonly Offender[],
): Promise<void> {
  const threads = new Set(offenders.map(({ thread }) => thread))
  const { rows } = await pool.query(
    'select id, provider_thread_id from threads where id = any ($1) and provider_thread_id is not null',
    [[...threads]],
  )
  const known = rows.map(({ id, provider_thread_id: thread }) => ({
    thread: id,
    history: emulator.history(thread),
    runs: emulator.runs(thread),
    conflicts: emulator.conflicts().filter(({ threadId }) => threadId === thread),
    requests: emulator.requests({ thread }),
  }))
  await writeFile(join(folder, 'evidence.json'), JSON.stringify(known, null, 1))
}

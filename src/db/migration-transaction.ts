import type pg from 'pg'
import { InturnError } from '../errors.ts'

/** Prisma's own lock, so that its `migrate deploy` and ours wait for each other. */
const migrationLock = 72_707_369

type Script = { name: string; sql: string }

/** Under the migration lock and in `schema`. The lock ends with the transaction, also behind a pooler. */
export async function inTransaction(
  client: pg.Client,
  schema: string,
  lockTimeoutMs: number,
  script: Script,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await client.query('begin')
    await client.query(`set local lock_timeout to ${lockTimeoutMs}`)
    await client.query(`select pg_advisory_xact_lock(${migrationLock})`)
    // "if not exists" alone would need the right to create schemas, even where there is nothing to do.
    const { rows } = await client.query('select to_regnamespace($1) as found', [`"${schema}"`])
    if (rows[0].found === null) await client.query(`create schema "${schema}"`)
    await useSchema(client, schema)
    await work()
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => {})
    throw error instanceof InturnError ? error : migrationError(error as pg.DatabaseError, script)
  }
}

/**
 * For the rest of the transaction. `pg_temp` stands last, where functions that pin this path do
 * not take a caller's temporary table for ours; unnamed, it would come first.
 */
export async function useSchema(client: pg.Client, schema: string): Promise<void> {
  await client.query(`set local search_path to "${schema}", pg_temp`)
}

function migrationError(error: pg.DatabaseError, { name, sql }: Script): InturnError {
  if (error.code === '55P03') {
    return new InturnError(
      'migration_locked',
      `Waited too long for a lock while applying ${name}.`,
      {
        hint: 'Another migration runs, or an open transaction uses our tables: see pg_stat_activity. Then try again.',
        cause: error,
      },
    )
  }
  const line = error.position && sql.slice(0, Number(error.position)).split('\n').length
  const place = line ? ` (line ${line})` : error.where ? ` (${error.where.split('\n')[0]})` : ''
  return new InturnError('migration_failed', `Applying ${name} failed: ${error.message}${place}`, {
    hint: error.hint,
    cause: error,
  })
}

import type { Command } from 'commander'
import type pg from 'pg'
import { type Config, loadConfig } from '../config.ts'
import { createPool } from '../db/pool.ts'
import { type Database, queryOn } from '../db/query.ts'
import { requireMigrated } from '../db/require-migrated.ts'

export type OpenDatabase = Database & { pool: pg.Pool; config: Config }

/** Gives `work` connections to the migrated database of flags and environment, and closes them. */
export async function withDatabase<T>(
  command: Command,
  work: (database: OpenDatabase) => Promise<T>,
): Promise<T> {
  const config = loadConfig(command.optsWithGlobals(), undefined, ['databaseUrl'])
  const { databaseUrl, schema } = config
  await requireMigrated({ databaseUrl, schema })
  const pool = createPool(databaseUrl, { schema, max: 3, applicationName: 'inturn cli' })
  try {
    return await work({ query: queryOn(pool), schema: `"${schema}"`, pool, config })
  } finally {
    await pool.end()
  }
}

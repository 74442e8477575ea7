import type pg from 'pg'
import { InturnError } from '../errors.ts'
import { defaultSchema, schemaNameProblem } from '../model/schema-name.ts'
import { applyClockwork, type ClockworkState, clockworkState } from './clockwork-tables.ts'
import { connect } from './connect.ts'
import { applyGenerated, type GeneratedState, generatedState } from './generated-function.ts'
import { type Migration, ourMigrations, readMigrations } from './migration-files.ts'
import { checkHistory, readHistory, recordMigration } from './migration-history.ts'
import { inTransaction, useSchema } from './migration-transaction.ts'

export type MigrateOptions = {
  databaseUrl: string
  /** Created when missing. Default `public`. */
  schema?: string
  /** The function that checks `data` at the INSERT, generated from the operations' schemas. */
  generatedSql?: string
  /** Default: the migrations of this package. */
  migrationsDir?: string
  /** Longest wait for another migration, or for a table in use, in milliseconds. Default 30,000. */
  lockTimeoutMs?: number
}

export type MigrateResult = {
  /** Names in the order in which they were applied by this call. */
  applied: string[]
  already: string[]
  /** Whether the generated function was written anew. */
  generatedChanged: boolean
  /**
   * The tables of pg-boss, which the sweeps are scheduled with: `denied` where the role may not create or
   * change them. Everything else works without them.
   */
  clockwork: 'current' | 'newer' | 'denied'
}

export type MigrationStatus = {
  applied: string[]
  pending: string[]
  generated: GeneratedState
}

/**
 * Brings `schema` up to date: each missing migration in a transaction of its own, then the
 * generated function and the tables of the clockwork. Any number may run at once; a failed migration leaves nothing of itself.
 *
 * Throws `schema_invalid`, `database_unreachable`, `database_too_old`, `migration_locked`,
 * `migration_failed`, and what `readHistory` and `checkHistory` throw.
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const { schema, migrations, client } = await prepare(options)
  const result: MigrateResult = {
    applied: [],
    already: [],
    generatedChanged: false,
    clockwork: 'denied',
  }
  const { generatedSql, lockTimeoutMs = 30_000 } = options
  try {
    for (const migration of migrations) {
      await inTransaction(client, schema, lockTimeoutMs, migration, async () => {
        const history = await readHistory(client, schema)
        checkHistory(history, migrations, schema)
        if (history.has(migration.name)) {
          result.already.push(migration.name)
          return
        }
        await client.query(migration.sql)
        // A migration may set its own search path.
        await useSchema(client, schema)
        await recordMigration(client, migration)
        result.applied.push(migration.name)
      })
    }
    if (generatedSql !== undefined) {
      const generated = { name: 'the generated check of data', sql: generatedSql }
      await inTransaction(client, schema, lockTimeoutMs, generated, async () => {
        result.generatedChanged = await applyGenerated(client, schema, generatedSql)
      })
    }
    const clockwork = { name: 'the tables of pg-boss', sql: '' }
    await inTransaction(client, schema, lockTimeoutMs, clockwork, async () => {
      result.clockwork = await applyClockwork(client, schema)
    }).catch(unlessDenied)
    return result
  } finally {
    await client.end()
  }
}

/** A role that was given our schema alone. */
function unlessDenied(error: unknown): void {
  const { code } = ((error as Error).cause ?? {}) as { code?: string }
  if (code !== '42501') throw error
}

/** What `migrate` would find, changing nothing. Throws the same errors. */
export async function migrationStatus(options: MigrateOptions): Promise<MigrationStatus> {
  const { schema, migrations, client } = await prepare(options)
  try {
    const history = await readHistory(client, schema)
    checkHistory(history, migrations, schema)
    const names = migrations.map(({ name }) => name)
    return {
      applied: names.filter((name) => history.has(name)),
      pending: names.filter((name) => !history.has(name)),
      generated: await generatedState(client, schema, options.generatedSql),
    }
  } finally {
    await client.end()
  }
}

/** How the tables of pg-boss are. Throws `database_unreachable`, and what the database says where they may not be read. */
export async function clockworkStatus(options: MigrateOptions): Promise<ClockworkState> {
  const { schema, client } = await prepare(options)
  try {
    return await clockworkState(client, schema)
  } finally {
    await client.end()
  }
}

async function prepare(
  options: MigrateOptions,
): Promise<{ schema: string; migrations: Migration[]; client: pg.Client }> {
  const schema = options.schema ?? defaultSchema
  const problem = schemaNameProblem(schema)
  if (problem) throw new InturnError('schema_invalid', problem)
  const migrations = await readMigrations(options.migrationsDir ?? ourMigrations)
  const client = await connect(options.databaseUrl, { applicationName: 'inturn migrate' })
  const { rows } = await client.query(
    `select current_setting('server_version_num')::int as number, current_setting('server_version') as name`,
  )
  if (rows[0].number < 150_000) {
    await client.end()
    throw new InturnError(
      'database_too_old',
      `The server is PostgreSQL ${rows[0].name}; inturn needs 15 or newer.`,
    )
  }
  return { schema, migrations, client }
}

import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { InturnError } from '../errors.ts'
import type { Migration } from './migration-files.ts'

/** A migration's name with the checksum it had when it was applied. */
export type History = ReadonlyMap<string, string>

/** Prisma's own definition, so that `prisma migrate status` and `deploy` agree with us. */
const createTable = `create table if not exists _prisma_migrations (
  id varchar(36) primary key not null,
  checksum varchar(64) not null,
  finished_at timestamptz,
  migration_name varchar(255) not null,
  logs text,
  rolled_back_at timestamptz,
  started_at timestamptz not null default now(),
  applied_steps_count integer not null default 0
)`

/** What is recorded in `schema`; empty when nothing is. Throws `migration_unfinished`. */
export async function readHistory(client: pg.ClientBase, schema: string): Promise<History> {
  const table = `"${schema}"._prisma_migrations`
  const { rows: found } = await client.query('select to_regclass($1) is not null as exists', [
    table,
  ])
  if (!found[0].exists) return new Map()
  const { rows } = await client.query(
    `select migration_name, checksum, finished_at from ${table} where rolled_back_at is null`,
  )
  const unfinished = rows.find((row) => row.finished_at === null)
  if (unfinished) {
    throw new InturnError(
      'migration_unfinished',
      `Migration ${unfinished.migration_name} was started in schema "${schema}" and never finished.`,
      { hint: 'Repair what it left, then record it with `prisma migrate resolve`.' },
    )
  }
  return new Map(rows.map((row) => [row.migration_name, row.checksum]))
}

/** Inside the migration's own transaction, with the schema as the search path. */
export async function recordMigration(
  client: pg.ClientBase,
  { name, checksum }: Migration,
): Promise<void> {
  await client.query(createTable)
  await client.query(
    `insert into _prisma_migrations
       (id, checksum, migration_name, finished_at, applied_steps_count)
     values ($1, $2, $3, clock_timestamp(), 1)`,
    [randomUUID(), checksum, name],
  )
}

/**
 * Refuses what we must not migrate: `migration_foreign` for somebody else's schema,
 * `migration_unknown` for a newer version of ours, `migration_changed` for an edited file.
 */
export function checkHistory(
  history: History,
  migrations: readonly Migration[],
  schema: string,
): void {
  const ours = new Map(migrations.map(({ name, checksum }) => [name, checksum]))
  const unknown = [...history.keys()].filter((name) => !ours.has(name)).sort()
  if (unknown.length > 0 && unknown.length === history.size) {
    throw new InturnError(
      'migration_foreign',
      `Schema "${schema}" holds the migrations of another project (${some(unknown)}). With ours beside them, its Prisma would offer to reset this database.`,
      {
        hint: 'Give inturn a schema of its own in the same database: --schema inturn (or INTURN_SCHEMA=inturn).',
      },
    )
  }
  if (unknown.length > 0) {
    throw new InturnError(
      'migration_unknown',
      `Schema "${schema}" holds migrations that this version of inturn does not know: ${some(unknown)}.`,
      {
        hint: "Use the newer version of inturn that applied them. If they are another project's: --schema inturn.",
      },
    )
  }
  const changed = [...history].filter(([name, checksum]) => ours.get(name) !== checksum)
  if (changed.length > 0) {
    throw new InturnError(
      'migration_changed',
      `Applied to schema "${schema}" and changed since: ${some(changed.map(([name]) => name))}.`,
      { hint: 'Restore the files as they were applied, and put the change into a new migration.' },
    )
  }
}

function some(names: readonly string[]): string {
  const more = names.length - 3
  return `${names.slice(0, 3).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

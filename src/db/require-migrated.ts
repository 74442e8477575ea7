import { InturnError } from '../errors.ts'
import { type MigrateOptions, type MigrationStatus, migrationStatus } from './migrate.ts'

/** Throws `not_migrated` where a migration is missing, and what `migrationStatus` throws. */
export async function requireMigrated(options: MigrateOptions): Promise<MigrationStatus> {
  const status = await migrationStatus(options)
  if (status.pending.length === 0) return status
  const schema = options.schema ?? 'public'
  const missing =
    status.applied.length === 0
      ? `Schema "${schema}" of this database holds no tables of inturn.`
      : `Schema "${schema}" lacks ${status.pending.length} of ${status.applied.length + status.pending.length} migrations.`
  throw new InturnError('not_migrated', missing, {
    hint: `Run "inturn migrate${options.schema && options.schema !== 'public' ? ` --schema ${schema}` : ''}" once, with the same DATABASE_URL.`,
  })
}

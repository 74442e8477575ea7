import { type MigrateOptions, type MigrateResult, migrate as migrateSchema } from '../db/migrate.ts'
import { operationData } from '../operations/data/index.ts'
import { dataCheckSql } from '../operations/data-check.ts'

/**
 * Creates or updates the tables, as `inturn migrate` does; any number may do so at once. Throws
 * `database_unreachable`, `database_too_old`, `migration_foreign` and others named `migration_…`.
 *
 * @example
 * await migrate({ databaseUrl: 'postgres://localhost/app', schema: 'inturn' })
 */
export function migrate(
  options: Pick<MigrateOptions, 'databaseUrl' | 'schema' | 'lockTimeoutMs'>,
): Promise<MigrateResult> {
  return migrateSchema({ ...options, generatedSql: dataCheckSql(operationData) })
}

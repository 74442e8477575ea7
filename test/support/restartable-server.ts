import { onTestFinished } from 'vitest'
import { ChaosDatabase } from '../../chaos/database.ts'
import { migrate } from '../../src/db/migrate.ts'
import { operationData } from '../../src/operations/data/index.ts'
import { dataCheckSql } from '../../src/operations/data-check.ts'

/** A PostgreSQL server for one test with a migrated database, under one address however often it restarts. */
export async function restartableServer(
  settings: Record<string, string> = {},
): Promise<ChaosDatabase> {
  const server = await ChaosDatabase.start({ shared_buffers: '16MB', ...settings })
  onTestFinished(() => server.stop({ keep: false }))
  await migrate({ databaseUrl: server.url, generatedSql: dataCheckSql(operationData) })
  return server
}

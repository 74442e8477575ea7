import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTemporaryDatabase } from '../../src/db/database.ts'
import { type Embedded, startEmbedded } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { operationData } from '../../src/operations/data/index.ts'
import { dataCheckSql } from '../../src/operations/data-check.ts'

/** A server of one test file alone, for what would hurt other tests. */
export type OwnServer = {
  /** A migrated database on it. */
  createDatabase(): Promise<string>
  /** Ends every session. */
  stop(): Promise<void>
  /** On the same data and port. */
  start(): Promise<void>
  remove(): Promise<void>
}

export async function startOwnServer(settings: Record<string, string>): Promise<OwnServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'inturn-test-'))
  const start = (port?: number) => startEmbedded({ dataDir, port, settings })
  let server: Embedded | undefined = await start()
  const { url } = server
  const stop = async () => {
    await server?.stop()
    server = undefined
  }
  return {
    async createDatabase() {
      const database = await createTemporaryDatabase(url)
      await migrate({ databaseUrl: database.url, generatedSql: dataCheckSql(operationData) })
      return database.url
    },
    stop,
    async start() {
      server = await start(Number(new URL(url).port))
    },
    async remove() {
      await stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

import { resolve } from 'node:path'
import type { TestProject } from 'vitest/node'
import { createTemporaryDatabase } from '../../src/db/database.ts'
import { startEmbedded } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { operationData } from '../../src/operations/data/index.ts'
import { dataCheckSql } from '../../src/operations/data-check.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Superuser's URL of the server that tests create their databases on. */
    serverUrl: string
    /** Name of the migrated database that tests copy. */
    templateDatabase: string
    /** Why the template could not be migrated, which fails only the tests that need it; else empty. */
    migrationProblem: string
    /** The server outlives the tests, so that a failed test's database can be looked at. */
    serverStays: boolean
  }
}

/** One server for all tests (that of DATABASE_URL, else an embedded one) with a migrated template. */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const given = process.env.DATABASE_URL || undefined
  const embedded = given === undefined ? await startEmbedded({ settings: quick }) : undefined
  const serverUrl = given ?? embedded?.url ?? ''
  const template = await createTemporaryDatabase(serverUrl)
  // Tests start many processes of ours; compiled once, each takes a third of the time.
  process.env.NODE_COMPILE_CACHE ??= resolve('node_modules/.cache/compiled')
  const teardown = async () => {
    await template.drop()
    await embedded?.stop()
  }
  try {
    await migrate({ databaseUrl: template.url, generatedSql: dataCheckSql(operationData) })
    provide('migrationProblem', '')
  } catch (error) {
    provide('migrationProblem', String(error))
  }
  provide('serverUrl', serverUrl)
  provide('templateDatabase', new URL(template.url).pathname.slice(1))
  provide('serverStays', given !== undefined)
  return teardown
}

/** Tests lose nothing when the machine does. */
const quick = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '200',
}

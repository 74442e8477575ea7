import type pg from 'pg'
import { test as base, inject } from 'vitest'
import { createTemporaryDatabase } from '../../src/db/database.ts'
import { createPool } from '../../src/db/pool.ts'

/** Each test file runs in a module graph of its own, so this is per file. */
let failed = false

/**
 * `test` with a migrated database per test file:
 * - `server`: superuser's URL of the server
 * - `url`: its connection string
 * - `pool`: connections to it, as `createPool` makes them
 * It is dropped after the file; on a server of yours it is kept when a test failed.
 */
export const test = base
  .extend('server', { scope: 'file' }, inject('serverUrl'))
  .extend('url', { scope: 'file' }, async ({ server }, { onCleanup }): Promise<string> => {
    const problem = inject('migrationProblem')
    if (problem) throw new Error(problem)
    const { url, drop } = await createTemporaryDatabase(server, {
      template: inject('templateDatabase'),
    })
    onCleanup(async () => {
      if (failed && inject('serverStays')) console.error(`kept: ${new URL(url).pathname.slice(1)}`)
      else await drop()
    })
    return url
  })
  .extend('pool', { scope: 'file' }, async ({ url }, { onCleanup }): Promise<pg.Pool> => {
    const pool = createPool(url, { max: 20, applicationName: 'inturn test' })
    onCleanup(() => pool.end())
    return pool
  })
  .extend('noticeFailure', { auto: true }, async ({ onTestFailed }) => {
    onTestFailed(() => {
      failed = true
    })
  })

/** An empty database for one test that drops it itself: `await using empty = await emptyDatabase()`. */
export async function emptyDatabase(): Promise<AsyncDisposable & { url: string }> {
  const { url, drop } = await createTemporaryDatabase(inject('serverUrl'))
  return { url, [Symbol.asyncDispose]: drop }
}

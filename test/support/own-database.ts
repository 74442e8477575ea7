import type pg from 'pg'
import { test as base, inject } from 'vitest'
import { createTemporaryDatabase } from '../../src/db/database.ts'
import { createPool } from '../../src/db/pool.ts'

/**
 * `test` with a migrated database of its own, because a claim takes whatever head it finds:
 * - `url`, `pool`: as in `database.ts`, but per test
 * - `connected`: another connection, which ends with the test
 */
export const test = base
  .extend('url', async ({}, { onCleanup }): Promise<string> => {
    const problem = inject('migrationProblem')
    if (problem) throw new Error(problem)
    const template = inject('templateDatabase')
    const { url, drop } = await createTemporaryDatabase(inject('serverUrl'), { template })
    onCleanup(drop)
    return url
  })
  .extend('pool', async ({ url }, { onCleanup }): Promise<pg.Pool> => {
    const pool = createPool(url, { max: 20, applicationName: 'inturn test' })
    // Not awaited: what a test stops only in onTestFinished, which comes later, still holds connections.
    // Dropping the database ends them.
    onCleanup(() => void pool.end())
    return pool
  })
  .extend('connected', async ({ pool }, { onCleanup }) => {
    const clients: pg.PoolClient[] = []
    onCleanup(() => {
      for (const client of clients) client.release(true)
    })
    return async (): Promise<pg.PoolClient> => {
      const client = await pool.connect()
      clients.push(client)
      return client
    }
  })

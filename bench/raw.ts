import { createTemporaryDatabase } from '../src/db/database.ts'
import { createPool } from '../src/db/pool.ts'

/** What this server can do at all: single-row inserts into a plain table, each its own commit. */
export async function rawCommits(
  serverUrl: string,
): Promise<{ version: string; one: number; ten: number }> {
  const database = await createTemporaryDatabase(serverUrl)
  const pool = createPool(database.url, { max: 10 })
  const rate = async (connections: number, total: number) => {
    let next = 0
    const startedAt = performance.now()
    await Promise.all(
      Array.from({ length: connections }, async () => {
        const client = await pool.connect()
        while (next++ < total) {
          await client.query({
            name: 'plain',
            text: 'insert into plain (thread_id, data) values ($1, $2)',
            values: [`t${next % 1000}`, { message: 'Hi' }],
          })
        }
        client.release()
      }),
    )
    return total / ((performance.now() - startedAt) / 1000)
  }
  try {
    await pool.query(
      'create table plain (id bigint generated always as identity primary key, thread_id text, data jsonb)',
    )
    const { rows } = await pool.query("select current_setting('server_version') as version")
    await rate(10, 2000)
    return { version: rows[0].version, one: await rate(1, 6000), ten: await rate(10, 20_000) }
  } finally {
    await pool.end()
    await database.drop()
  }
}

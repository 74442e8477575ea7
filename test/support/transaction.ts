import type pg from 'pg'

/** Runs `work` inside a transaction that is committed afterwards: until then it holds what it has touched. */
export async function withTransaction<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    const value = await work(client)
    await client.query('commit')
    return value
  } finally {
    await client.query('rollback').catch(() => {})
    client.release()
  }
}

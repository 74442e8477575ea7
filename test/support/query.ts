import type pg from 'pg'
import { connect } from '../../src/db/connect.ts'

/** Runs `work` with a connection of its own, which is ended afterwards. */
export async function withClient<T>(
  url: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(url)
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** The rows of one statement. */
export const query = (url: string, sql: string, values: unknown[] = []) =>
  withClient(url, async (client) => (await client.query(sql, values)).rows)

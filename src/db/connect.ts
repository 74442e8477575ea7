import pg from 'pg'
import { InturnError } from '../errors.ts'

export type ConnectOptions = {
  /** Shown in `pg_stat_activity`. Default `inturn`. */
  applicationName?: string
  /** Give up connecting after this long, in milliseconds. Default 10,000. */
  timeoutMs?: number
}

/**
 * One connection of its own. The caller ends it; losing it shows in the next query, never as an
 * uncaught error. Throws `database_unreachable`, with the host and the reason but never the password.
 */
export async function connect(
  databaseUrl: string,
  options: ConnectOptions = {},
): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: options.applicationName ?? 'inturn',
    connectionTimeoutMillis: options.timeoutMs ?? 10_000,
    keepAlive: true,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    return client
  } catch (error) {
    await client.end().catch(() => {})
    const where = `${client.host}:${client.port}, database "${client.database}", user "${client.user}"`
    throw new InturnError(
      'database_unreachable',
      `Cannot connect to PostgreSQL at ${where}: ${reason(error)}`,
      {
        hint: 'Check DATABASE_URL (postgres://user:password@host:5432/database) and that the server runs.',
        cause: error,
      },
    )
  }
}

/** A host with several addresses fails with an error per address and no message of its own. */
function reason(error: unknown): string {
  if (error instanceof AggregateError && !error.message) return error.errors.map(reason).join('; ')
  return error instanceof Error ? error.message : String(error)
}

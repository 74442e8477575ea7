import pg from 'pg'

/**
 * A connection with the settings of a pool that is none of its connections, so that no demand on the
 * pool can make its user wait. The caller ends it; losing it shows in its event `end` and in the next
 * query, never as an uncaught error. Gives up connecting after `timeoutMs` milliseconds.
 */
export async function connectBeside(
  pool: pg.Pool,
  options: { applicationName: string; timeoutMs: number },
): Promise<pg.Client> {
  const client = new pg.Client({
    ...pool.options,
    application_name: options.applicationName,
    connectionTimeoutMillis: options.timeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 1_000,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    return client
  } catch (error) {
    await client.end().catch(() => {})
    throw error
  }
}

/** The server process that announced itself to a connection; null where nobody did. */
export function announcedBackend(client: pg.ClientBase): number | null {
  // A part of the protocol that the typings leave out. A pooler announces a number of its own.
  return (client as unknown as { processID: number | null }).processID || null
}

import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { connect } from './connect.ts'

/** A direct connection of its own, or one that is borrowed from a pool for as long as it listens. */
type Source = { databaseUrl: string; pool?: undefined } | { pool: pg.Pool }

export type ListenOptions = Source & {
  channels: readonly string[]
  onNotify: (channel: string, payload: string) => void
  /** Called after each connect: what was sent before it is lost, so look once yourself. */
  onConnected?: () => void
  /** Called for a lost connection and for each failed attempt to connect again. */
  onDisconnected?: (error: Error) => void
  /** Shown in `pg_stat_activity`, unless the connection is a pool's. Default `inturn listen`. */
  applicationName?: string
}

export type Listener = { close(): Promise<void> }

const backoffMs = { first: 100, longest: 5_000 }

/**
 * Listens on one connection until `close()`, connecting again whenever it is lost, with a
 * growing, jittered pause. Never throws: notifications only ever shorten somebody's wait.
 */
export function listen(options: ListenOptions): Listener {
  const closing = new AbortController()
  const closed = keepListening(options, closing.signal)
  return {
    close() {
      closing.abort()
      return closed
    },
  }
}

async function keepListening(options: ListenOptions, closing: AbortSignal): Promise<void> {
  let pauseMs = backoffMs.first
  while (!closing.aborted) {
    try {
      await listenOnce(options, closing, () => {
        pauseMs = backoffMs.first
        options.onConnected?.()
      })
    } catch (error) {
      if (closing.aborted) break
      options.onDisconnected?.(error as Error)
      await sleep(pauseMs * (0.5 + Math.random() / 2), undefined, { signal: closing }).catch(
        () => {},
      )
      pauseMs = Math.min(pauseMs * 2, backoffMs.longest)
    }
  }
}

/** Resolves when closing, throws when the connection fails. */
async function listenOnce(
  options: ListenOptions,
  closing: AbortSignal,
  onConnected: () => void,
): Promise<void> {
  const { client, end } = await open(options)
  const over = Promise.withResolvers<void>()
  // Lost before anybody waits for it: the query in between fails as well and tells.
  over.promise.catch(() => {})
  const stop = () => over.resolve()
  try {
    client.on('error', over.reject)
    client.on('end', () => over.reject(new Error('the server closed the connection')))
    closing.addEventListener('abort', stop)
    client.on('notification', ({ channel, payload }) => options.onNotify(channel, payload ?? ''))
    await client.query(options.channels.map((c) => `listen ${pg.escapeIdentifier(c)}`).join(';'))
    if (closing.aborted) return
    onConnected()
    await over.promise
  } finally {
    closing.removeEventListener('abort', stop)
    await end()
  }
}

async function open(options: ListenOptions): Promise<{
  client: pg.ClientBase
  end: () => Promise<void>
}> {
  if (options.pool) {
    const client = await options.pool.connect()
    // Never back into the pool, where others would get a connection that listens.
    return { client, end: async () => client.release(true) }
  }
  const client = await connect(options.databaseUrl, {
    applicationName: options.applicationName ?? 'inturn listen',
  })
  return { client, end: () => client.end().catch(() => {}) }
}

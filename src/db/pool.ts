import pg from 'pg'
import { defaultSchema } from '../model/schema-name.ts'

export type PoolOptions = {
  /** Schema that holds our tables. Default `public`. */
  schema?: string
  /** Most connections open at once. Default 10. */
  max?: number
  /** Shown in `pg_stat_activity`. Default `inturn`. */
  applicationName?: string
  /**
   * Gives up a statement, and its connection, after this long without an answer, in milliseconds: a
   * network that went silent is noticed by nobody else for hours. Default: never.
   */
  queryTimeoutMs?: number
  /** Told when a connection is lost; the pool itself goes on and opens another when one is needed. */
  onError?: (error: Error) => void
}

/**
 * Connections that see our tables by their bare names and read `bigint` as a JavaScript number.
 * The process-wide type parsers of `pg` stay as they are, so a caller's own pools do too.
 *
 * A schema other than `public` is selected by the start-up parameter `options`, which PgBouncer
 * refuses unless `ignore_startup_parameters` names it (then give the role that `search_path`).
 */
export function createPool(databaseUrl: string, options: PoolOptions = {}): pg.Pool {
  const pool = new pg.Pool({
    connectionString: withSearchPath(databaseUrl, options.schema ?? defaultSchema),
    max: options.max ?? 10,
    application_name: options.applicationName ?? 'inturn',
    connectionTimeoutMillis: 10_000,
    query_timeout: options.queryTimeoutMs,
    keepAlive: true,
    types: { getTypeParser },
  })
  const onError = options.onError ?? (() => {})
  pool.on('error', onError)
  // A connection lost while somebody holds it also rejects that query, which is where it is handled.
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

/** `databaseUrl` whose connections look for unqualified names in `schema`. */
export function withSearchPath(databaseUrl: string, schema: string): string {
  if (schema === defaultSchema) return databaseUrl
  const url = new URL(databaseUrl)
  const given = url.searchParams.get('options')
  url.searchParams.set('options', `${given ? `${given} ` : ''}-c search_path="${schema}"`)
  // URLSearchParams writes a space as "+", which stands for itself in a connection string.
  url.search = url.search.replaceAll('+', '%20')
  return url.href
}

const int8 = 20
const int8Array = 1016

const getTypeParser = ((oid: number, format?: 'text' | 'binary') => {
  const standard = pg.types.getTypeParser(oid, format)
  if (format === 'binary') return standard
  if (oid === int8) return toNumber
  if (oid === int8Array) {
    return (text: string) => (standard(text) as (string | null)[]).map((v) => v && toNumber(v))
  }
  return standard
}) as typeof pg.types.getTypeParser

function toNumber(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value))
    throw new RangeError(`${text} is too large for a JavaScript number`)
  return value
}

import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { connect } from './connect.ts'
import { startEmbedded } from './embedded.ts'

export type TemporaryDatabase = {
  url: string
  /** Ends every connection to it and removes it. */
  drop(): Promise<void>
}

/**
 * An empty database that nobody else uses: a new one (`inturn_tmp_…`) on the server of
 * `databaseUrl`, whose existing databases are not touched, or without a URL on an embedded server
 * of its own. Throws `database_unreachable` and `embedded_failed`.
 */
export async function createTemporaryDatabase(
  databaseUrl: string | undefined,
  options: {
    /** Database on that server to copy; nobody may be connected to it. Only with a URL. */
    template?: string
    /** See `startEmbedded`. Only without a URL. */
    settings?: Record<string, string>
  } = {},
): Promise<TemporaryDatabase> {
  if (databaseUrl === undefined) {
    const { url, stop } = await startEmbedded({ settings: options.settings })
    return { url, drop: stop }
  }
  const name = `inturn_tmp_${randomBytes(6).toString('hex')}`
  const template = options.template ? ` template ${pg.escapeIdentifier(options.template)}` : ''
  await execute(databaseUrl, `create database ${name}${template}`)
  const url = new URL(databaseUrl)
  url.pathname = `/${name}`
  return { url: url.href, drop: () => execute(databaseUrl, `drop database ${name} with (force)`) }
}

/** Gives `work` a temporary database (see `createTemporaryDatabase`), dropped however `work` ends. */
export async function withTemporaryDatabase<T>(
  databaseUrl: string | undefined,
  work: (url: string) => Promise<T>,
): Promise<T> {
  const database = await createTemporaryDatabase(databaseUrl)
  try {
    return await work(database.url)
  } finally {
    await database.drop()
  }
}

async function execute(databaseUrl: string, sql: string): Promise<void> {
  const client = await connect(databaseUrl)
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

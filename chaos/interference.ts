import type pg from 'pg'
import { connect } from '../src/db/connect.ts'
import type { Emulator } from '../src/emulator/index.ts'
import type { Disturbance } from './disturbances.ts'
import { Fleet } from './fleet.ts'
import { foreignText } from './history.ts'

type Of<What extends Disturbance['what']> = Extract<Disturbance, { what: What }>

const held = {
  operations:
    'select from thread_operations where thread_id = $1 and finished_at is null order by id limit 2 for update',
  thread: 'select from threads where id = $1 for update',
  dispatchers: 'select from dispatchers where id <> $1 order by id limit 1 for update',
}

/** A transaction that somebody forgets. False: the database was away, or went away. */
export async function holdRows(
  databaseUrl: string,
  { of, thread, ms }: Of<'hold rows'>,
  pause: (ms: number) => Promise<void>,
): Promise<boolean> {
  const client = await connect(databaseUrl, { applicationName: 'chaos idler' }).catch(() => null)
  if (client === null) return false
  try {
    await client.query('begin')
    await client.query(held[of], [thread])
  } catch {
    await client.end()
    return false
  }
  await pause(ms).finally(() => client.end())
  return true
}

/** Opens connections until the server has none left, and holds them; returns how many. */
export async function takeConnections(
  databaseUrl: string,
  pause: (ms: number) => Promise<void>,
  { ms }: Of<'take connections'>,
): Promise<number> {
  const taken: Array<Awaited<ReturnType<typeof connect>>> = []
  const take = () => connect(databaseUrl, { applicationName: 'chaos hog' }).catch(() => null)
  for (let client = await take(); client !== null; client = await take()) taken.push(client)
  await pause(ms).finally(() => Promise.all(taken.map((client) => client.end())))
  return taken.length
}

/** False: the database was away, or there was no provider thread on which an outsider could start a run. */
export async function runAsOutsider(
  pool: pg.Pool,
  emulator: Emulator,
  { thread, ms, speaks }: Of<'foreign run'>,
): Promise<boolean> {
  try {
    const { rows } = await pool.query('select provider_thread_id from threads where id = $1', [
      thread,
    ])
    emulator.foreignRun(rows[0].provider_thread_id, { ms, ...(speaks && { message: foreignText }) })
    return true
  } catch {
    return false
  }
}

/** Ends all database sessions of one dispatcher; returns how many there were. */
export async function cutSessions(
  pool: pg.Pool,
  { dispatcher }: Of<'cut sessions'>,
): Promise<number> {
  try {
    const { rowCount } = await pool.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1',
      [Fleet.sessionsOf(dispatcher)],
    )
    return rowCount ?? 0
  } catch {
    return 0
  }
}

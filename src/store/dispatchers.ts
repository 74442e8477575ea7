import type pg from 'pg'

export type Announcement = {
  id: string
  host: string
  pid: number
  concurrency: number
  providers: readonly string[]
  /** See `Dispatcher.graceMs` in the data dictionary. */
  graceMs: number
  leaseMs: number
}

/** A dispatcher as another one sees it. */
export type Seen = {
  id: string
  /** Changes with every beat; compare it, and read nothing else in it. */
  beat: string
  direct: boolean
  grace_ms: number
  lease_ms: number
}

/** All who are signed on, at one moment. */
export type Sighting = {
  /** Changes when the server starts anew. */
  serverStart: string
  dispatchers: Seen[]
}

/** What came of a beat: `held` by somebody's transaction it may succeed the next time, `gone` it never will. */
export type Beat = {
  outcome: 'beaten' | 'held' | 'gone'
  /** The backend that carried it out. */
  backend: number
  sighting: Sighting
}

/**
 * Announces a dispatcher. From now on it must beat at least once per lease. In the same moment the
 * one it was before, if any, is off the list: what that one holds is free for others.
 */
export async function signOn(
  database: pg.Pool | pg.ClientBase,
  dispatcher: Announcement,
  before: string | null = null,
): Promise<void> {
  const { id, host, pid, concurrency, providers, graceMs, leaseMs } = dispatcher
  await database.query(
    // Who waits for a row in somebody's transaction is silent meanwhile: others sign that one off.
    `with gone as (
       delete from dispatchers where id = (select id from dispatchers where id = $8 for update skip locked))
     insert into dispatchers (id, host, pid, concurrency, providers, grace_ms, lease_ms)
     values ($1, $2, $3, $4, $5, $6, $7)`,
    [id, host, pid, concurrency, providers, graceMs, leaseMs, before],
  )
}

/** Takes the dispatcher off the list: what it still holds is free for others at once. */
export async function signOff(pool: pg.Pool, id: string): Promise<void> {
  await pool.query('delete from dispatchers where id = $1', [id])
}

/**
 * Takes a dispatcher off the list that was seen to beat no more, before its lease is over only if its
 * session lock is free. False: it lives, or is off the list already.
 */
export async function signOffSilent(
  pool: pg.Pool,
  { id, beat }: Seen,
  leaseIsOver: boolean,
): Promise<boolean> {
  const { rows } = await pool.query('select sign_off_silent($1, $2, $3) as gone', [
    id,
    beat,
    leaseIsOver,
  ])
  return rows[0].gone
}

/**
 * Takes the dispatcher's session lock, if `client` speaks to the backend that announced itself to it.
 * False: another session still holds it. Null: there is a pooler between, and no lock is taken.
 */
export async function takeSessionLock(
  client: pg.ClientBase,
  id: string,
  backend: number | null,
): Promise<boolean | null> {
  const { rows } = await client.query(
    `select case when pg_backend_pid() = $2 then pg_try_advisory_lock(dispatcher_lock_key($1)) end as taken`,
    [id, backend],
  )
  return rows[0].taken
}

const seen = `jsonb_agg(jsonb_build_object('id', d.id, 'beat', extract(epoch from d.beat_at)::text, 'direct', d.direct,
                                           'grace_ms', d.grace_ms, 'lease_ms', d.lease_ms))`

/**
 * Shows that the dispatcher lives, on `backend` if it is to count as direct, and looks who else does.
 * Waits for nobody. A beat need not survive a crash of the server, after which all are watched anew.
 */
export async function beat(
  client: pg.ClientBase,
  id: string,
  backend: number | null,
): Promise<Beat> {
  const { rows } = await client.query(
    `with beat as (
       update dispatchers set beat_at = clock_timestamp(), direct = coalesce(pg_backend_pid() = $2, false)
        where id = (select id from dispatchers where id = $1 for update skip locked)
       returning id)
     select set_config('synchronous_commit', 'off', true), pg_backend_pid() as backend,
            pg_postmaster_start_time()::text as server_start, exists (select from beat) as beaten,
            coalesce((select ${seen} from dispatchers d), '[]') as dispatchers`,
    [id, backend],
  )
  const [{ beaten, dispatchers, server_start }] = rows
  const isListed = (dispatchers as Seen[]).some((dispatcher) => dispatcher.id === id)
  return {
    outcome: beaten ? 'beaten' : isListed ? 'held' : 'gone',
    backend: rows[0].backend,
    sighting: { serverStart: server_start, dispatchers },
  }
}

/** All who are signed on. */
export async function seeDispatchers(pool: pg.Pool): Promise<Sighting> {
  const { rows } = await pool.query(
    `select pg_postmaster_start_time()::text as server_start,
            coalesce((select ${seen} from dispatchers d), '[]') as dispatchers`,
  )
  return { serverStart: rows[0].server_start, dispatchers: rows[0].dispatchers }
}

/**
 * Says that this dispatcher sleeps, so that whoever inserts wakes it by NOTIFY. Waits for nobody who
 * holds the row: then nobody wakes it, and it polls.
 */
export async function sayAsleep(client: pg.ClientBase, id: string): Promise<void> {
  await client.query({
    text: `update dispatchers set asleep = true
            where id = (select id from dispatchers where id = $1 and not asleep for update skip locked)`,
    values: [id],
  })
}

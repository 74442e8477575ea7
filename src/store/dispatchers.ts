import type pg from 'pg'

export type Announcement = {
  id: string
  host: string
  pid: number
  concurrency: number
  providers: readonly string[]
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
  const { id, host, pid, concurrency, providers } = dispatcher
  await database.query(
    `with gone as (delete from dispatchers where id = $6)
     insert into dispatchers (id, host, pid, concurrency, providers) values ($1, $2, $3, $4, $5)`,
    [id, host, pid, concurrency, providers, before],
  )
}

/** Takes the dispatcher off the list: what it still holds is free for others at once. */
export async function signOff(pool: pg.Pool, id: string): Promise<void> {
  await pool.query('delete from dispatchers where id = $1', [id])
}

/** Renews the lease. False: it has run out, and the dispatcher must sign on under a new id. */
export async function beat(pool: pg.Pool, id: string, leaseMs: number): Promise<boolean> {
  const { rowCount } = await pool.query({
    text: `update dispatchers set beat_at = clock_timestamp()
            where id = $1 and beat_at > clock_timestamp() - $2 * interval '1 millisecond'`,
    values: [id, leaseMs],
  })
  return rowCount === 1
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

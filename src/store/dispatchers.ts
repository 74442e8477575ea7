import type pg from 'pg'

/** Announces a dispatcher. From now on it must beat at least once per lease. */
export async function signOn(
  pool: pg.Pool,
  dispatcher: { id: string; host: string; pid: number; concurrency: number; providers: readonly string[] },
): Promise<void> {
  await pool.query(
    `insert into dispatchers (id, host, pid, concurrency, providers) values ($1, $2, $3, $4, $5)`,
    [dispatcher.id, dispatcher.host, dispatcher.pid, dispatcher.concurrency, dispatcher.providers],
  )
}

/** Takes the dispatcher off the list: what it still holds is free for others at once. */
export async function signOff(pool: pg.Pool, id: string): Promise<void> {
  await pool.query('delete from dispatchers where id = $1', [id])
}

/** Renews the lease. False: the dispatcher is no longer on the list and must sign on under a new id. */
export async function beat(pool: pg.Pool, id: string): Promise<boolean> {
  const { rowCount } = await pool.query({
    text: 'update dispatchers set beat_at = clock_timestamp() where id = $1',
    values: [id],
  })
  return rowCount === 1
}

/** Says that this dispatcher sleeps, so that whoever inserts wakes it by NOTIFY. */
export async function sayAsleep(client: pg.ClientBase, id: string): Promise<void> {
  await client.query({
    text: 'update dispatchers set asleep = true where id = $1 and not asleep',
    values: [id],
  })
}

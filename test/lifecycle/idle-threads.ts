import type pg from 'pg'
import { withTransaction } from '../support/transaction.ts'

export type IdleThreads = {
  count?: number
  /** Ids are `<name> 1`, `<name> 2` … Default: idle. */
  name?: string
  /** Since when, as an interval of PostgreSQL. Default: 2 days. */
  idleFor?: string
  /** Since when it has its provider thread; default as idleFor. */
  oldFor?: string
  columns?: Partial<{ user_id: string; session_id: string; topic: string; policy: string }>
  onFailure?: 'continue' | 'halt'
}

/** Threads with a provider thread, as if they had been served long ago; the longest idle first. */
export async function insertIdleThreads(pool: pg.Pool, options: IdleThreads = {}): Promise<void> {
  const { count = 1, name = 'idle', idleFor = '2 days', oldFor = idleFor, columns = {} } = options
  await withTransaction(pool, async (client) => {
    // Past the triggers, which would number the generations now.
    await client.query('set local session_replication_role = replica')
    await client.query(
      `with made as (
         insert into threads (id, provider, provider_thread_id, generation, generation_since, last_active_at, created_at,
                              user_id, session_id, topic, policy, on_failure)
         select $1 || ' ' || n, 'responses', 'conv_' || md5($1) || lpad(to_hex(n), 8, '0'), 1, clock_timestamp() - $4::interval,
                clock_timestamp() - $3::interval + n * interval '1 microsecond', clock_timestamp() - $4::interval, $5, $6, $7, $8, $9
           from generate_series(1, $2::integer) as n
         returning id, provider_thread_id, generation_since)
       insert into thread_generations (thread_id, generation, provider, provider_thread_id, started_at)
       select id, 1, 'responses', provider_thread_id, generation_since from made`,
      [
        name,
        count,
        idleFor,
        oldFor,
        columns.user_id,
        columns.session_id,
        columns.topic,
        columns.policy,
        options.onFailure ?? 'continue',
      ],
    )
  })
}

type Policy = Partial<
  Record<
    | 'pattern'
    | 'idle_ttl'
    | 'absolute_ttl'
    | 'operation_retention'
    | 'archive_retention'
    | 'max_messages',
    string | number
  >
>

export async function setPolicy(pool: pg.Pool, name: string, policy: Policy): Promise<void> {
  const columns = Object.keys(policy)
  await pool.query(
    `insert into thread_policies (name${columns.map((column) => `, ${column}`).join('')})
     values ($1${columns.map((_, i) => `, $${i + 2}`).join('')})
         on conflict (name) do update set (name${columns.map((column) => `, ${column}`).join('')})
            = row (excluded.name${columns.map((column) => `, excluded.${column}`).join('')})`,
    [name, ...Object.values(policy)],
  )
}

/** Whose end was asked for, in the order in which that happened. */
export async function askedToExpire(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query(
    `select thread_id from thread_operations where operation = 'expire_thread' order by id`,
  )
  return rows.map(({ thread_id }) => thread_id)
}

/** As the clock of the clockwork does once a minute. */
export const askForSweep = (pool: pg.Pool) =>
  pool.query(
    `insert into public_boss.job (name, policy, retry_limit) values ('sweeps', 'stately', 0) on conflict do nothing`,
  )

/** As if these threads had last been served that long ago, an interval of PostgreSQL. */
export const ageThreads = (pool: pg.Pool, threads: readonly string[], interval: string) =>
  withTransaction(pool, async (client) => {
    await client.query('set local session_replication_role = replica')
    await client.query(
      `update threads set last_active_at = last_active_at - $2::interval, generation_since = generation_since - $2::interval
        where id = any ($1)`,
      [threads, interval],
    )
    await client.query(
      `update thread_operations set created_at = created_at - $2::interval, started_at = started_at - $2::interval,
              finished_at = finished_at - $2::interval
        where thread_id = any ($1) and finished_at is not null`,
      [threads, interval],
    )
  })

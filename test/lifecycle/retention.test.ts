import type pg from 'pg'
import { describe, expect } from 'vitest'
import { itemsOf, requireArchive } from '../../src/client/read-archive.ts'
import { queryOn } from '../../src/db/query.ts'
import { sweep } from '../../src/lifecycle/sweep.ts'
import {
  deleteUnfinishedArchives,
  pruneArchives,
  pruneOperations,
} from '../../src/store/retention.ts'
import { explain, workOf } from '../support/explained.ts'
import { completed, failed, HandDriven } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { setPolicy } from './idle-threads.ts'

/** Has `count` operations served on each thread, one after the other. */
async function serve(pool: pg.Pool, dispatcher: HandDriven, threads: string[], count = 1) {
  for (let n = 0; n < count; n++) {
    for (const thread_id of threads) await insertRow(pool, { thread_id })
    const claimed = await dispatcher.claim({ free: 1000 })
    await dispatcher.settle(claimed, completed)
  }
}

/** As if all that is there were from that long ago. */
const ageBy = (pool: pg.Pool, interval: string) =>
  pool.query(`begin; set local session_replication_role = replica;
    update thread_operations set created_at = created_at - interval '${interval}', started_at = started_at - interval '${interval}',
           finished_at = finished_at - interval '${interval}';
    update thread_archives set archived_at = archived_at - interval '${interval}'; commit`)

const left = async (pool: pg.Pool): Promise<string[]> => {
  const { rows } = await pool.query(
    `select thread_id || ' ' || coalesce(turn::text, status) as said from thread_operations order by id`,
  )
  return rows.map(({ said }) => said)
}

const count = async (pool: pg.Pool, table: string): Promise<number> =>
  (await pool.query(`select count(*) from ${table}`)).rows[0].count

describe('operations', () => {
  test('are kept for ever where no policy says otherwise', async ({ pool, connected }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a'])
    await ageBy(pool, '20 years')
    await setPolicy(pool, 'other', { pattern: 'any', idle_ttl: '1 day' })
    expect(await pruneOperations(pool, 100)).toEqual({ looked: 0, pruned: 0, is_round: true })
    expect(await left(pool)).toEqual(['a 1'])
  })

  test('go when the time of their policy is over, with all that belongs to them, and it is written down', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a', 'b'], 2)
    const { rows } = await pool.query('select id from thread_operations')
    await pool.query(
      `insert into operation_stream (operation_id, first_seq, last_seq, events)
       select id, seq, seq, '[]' from unnest($1::bigint[]) id, generate_series(1, 2) seq`,
      [rows.map(({ id }) => id)],
    )
    await pool.query(
      `insert into operation_waiters (operation_id, waiter) select id, 'gone' from thread_operations`,
    )
    await pool.query(
      `begin; set local session_replication_role = replica;
       insert into tool_calls (operation_id, call_id, thread_id, round, type, name, arguments, deadline, output)
       select id, 'call', thread_id, 1, 'function_call', 'f', '{}', now(), '1' from thread_operations;
       insert into lane_runs select id, 'responses', 'key', '' from thread_operations;
       insert into user_runs select id, '42' from thread_operations; commit`,
    )
    await ageBy(pool, '8 days')
    await serve(pool, dispatcher, ['a'])
    await setPolicy(pool, 'week', { pattern: 'any', operation_retention: '7 days' })
    expect(await pruneOperations(pool, 100)).toEqual({ looked: 5, pruned: 4, is_round: true })
    expect(await left(pool)).toEqual(['a 3'])
    expect(await count(pool, 'operation_events')).toBe(2)
    for (const table of [
      'operation_stream',
      'operation_waiters',
      'tool_calls',
      'lane_runs',
      'user_runs',
    ]) {
      expect(await count(pool, table), table).toBe(0)
    }
    const { rows: prunings } = await pool.query(
      'select policy, operations, events, streams, archives from prunings',
    )
    expect(prunings).toEqual([
      { policy: 'week', operations: 4, events: 8, streams: 4, archives: 0 },
    ])
    await ageBy(pool, '8 days')
    await pruneOperations(pool, 100)
    const { rows: later } = await pool.query('select operations from prunings')
    expect(later).toEqual([{ operations: 5 }])
  })

  test('go by the policy of their thread, also where nothing was ever started', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['short', 'long', 'other'])
    await insertRow(pool, { thread_id: 'never' })
    await pool.query(`update thread_operations set status = 'cancelled' where thread_id = 'never'`)
    await ageBy(pool, '2 days')
    await setPolicy(pool, 'short', { operation_retention: '1 day' })
    await setPolicy(pool, 'users', { pattern: 'user', operation_retention: '3 days' })
    await pool.query(`update threads set policy = 'short' where id = 'short'`)
    await pool.query(`update threads set user_id = '42' where id = 'long'`)
    await pruneOperations(pool, 100)
    expect(await left(pool)).toEqual(['long 1', 'other 1', 'never cancelled'])
    await setPolicy(pool, 'rest', { pattern: 'any', operation_retention: '1 day' })
    await pruneOperations(pool, 100)
    expect(await left(pool)).toEqual(['long 1'])
  })

  test('turns and sums go on where they were', async ({ pool, connected }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a'], 3)
    const totals = async () =>
      (await pool.query(`select * from thread_totals('a', 9223372036854775807)`)).rows[0]
    const before = await totals()
    await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '1 day' })
    await ageBy(pool, '2 days')
    await pruneOperations(pool, 100)
    expect(await left(pool)).toEqual([])
    expect(await totals()).toEqual(before)
    await serve(pool, dispatcher, ['a'])
    expect(await left(pool)).toEqual(['a 4'])
    await expectHealthy(pool, { without: ['results_are_there'] })
  })

  test('the walk takes small steps and turns where rows are too young', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a', 'b', 'c'], 2)
    await ageBy(pool, '2 days')
    await serve(pool, dispatcher, ['d'], 3)
    await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '1 day' })
    const step = (pruned: number, is_round: boolean) => ({ looked: 4, pruned, is_round })
    expect(await pruneOperations(pool, 4)).toEqual(step(4, false))
    expect(await pruneOperations(pool, 4)).toEqual(step(2, true))
    expect(await left(pool)).toEqual(['d 1', 'd 2', 'd 3'])
    expect(await pruneOperations(pool, 4)).toMatchObject({ pruned: 0, is_round: true })
  })

  test('what is still needed stays: unfinished, merged, halting, cancelled, noted by a sweep, for an erasure', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await pool.query(`insert into threads (id, on_failure) values ('halted', 'halt')`)
    await serve(pool, dispatcher, ['noted', 'target', 'usual'])
    await insertRow(pool, { thread_id: 'halted' })
    await dispatcher.settle(await dispatcher.claim(), failed)
    await insertRow(pool, { thread_id: 'halted' })
    await insertRow(pool, { thread_id: 'busy' })
    await dispatcher.claim()
    const carrier = await insertRow(pool, { thread_id: 'busy' })
    const merged = await insertRow(pool, { thread_id: 'busy' })
    const client = await connected()
    await client.query(`begin; set local session_replication_role = replica`)
    await client.query(
      `update thread_operations set status = 'cancelled', place = null, finished_at = clock_timestamp(),
              error = jsonb_build_object('code', 'merged', 'operation_id', $1::bigint) where id = $2`,
      [carrier.id, merged.id],
    )
    await client.query('commit')
    await pool.query(
      `update threads t set lifecycle_operation_id = o.id from thread_operations o where t.id = 'noted' and o.thread_id = t.id`,
    )
    const target = (await pool.query(`select id from thread_operations where thread_id = 'target'`))
      .rows[0]
    await pool.query(
      `insert into thread_operations (thread_id, operation, data) values ('target', 'cancel_run', $1)`,
      [{ operation_id: target.id }],
    )
    await ageBy(pool, '2 days')
    await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '1 day' })
    await pruneOperations(pool, 100)
    expect(await left(pool)).toEqual([
      'noted 1',
      'target 1',
      'halted 1',
      'halted pending',
      'busy 1',
      'busy pending',
      'busy cancelled',
      'target pending',
    ])
    await pool.query(`update threads set lifecycle_operation_id = null, on_failure = 'continue'`)
    await pool.query(
      `update thread_operations set status = 'cancelled' where id = any ($1) or operation = 'cancel_run'`,
      [[carrier.id]],
    )
    await sweep({ pool })
    expect(await left(pool)).toEqual([
      'halted pending',
      'busy 1',
      'busy cancelled',
      'target cancelled',
    ])
  })

  test('while lines are busy nothing waits: what a transaction holds is left for the next round', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['row', 'thread', 'calls', 'free'])
    await ageBy(pool, '2 days')
    await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '1 day' })
    const somebody = await connected()
    await somebody.query('begin')
    await somebody.query(`select from thread_operations where thread_id = 'row' for update`)
    await somebody.query(`update threads set labels = '{"a": 1}' where id = 'thread'`)
    await pruneOperations(pool, 100)
    expect(await left(pool)).toEqual(['row 1', 'thread 1', 'calls 1'].slice(0, 2))
    await serve(pool, dispatcher, ['row', 'free'])
    await somebody.query('commit')
    await pruneOperations(pool, 100)
    expect(await left(pool)).toEqual(['row 2', 'free 2'])
    await expectHealthy(pool, { without: ['results_are_there'] })
  })

  test('a lock on what belongs to an operation costs one step, not the walk', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a', 'b', 'c'])
    await pool.query(
      `insert into operation_waiters (operation_id, waiter) select id, 'w' from thread_operations where thread_id = 'b'`,
    )
    await ageBy(pool, '2 days')
    await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '1 day' })
    const somebody = await connected()
    await somebody.query('begin; select from operation_waiters for update')
    for (let n = 0; n < 3; n++) await pruneOperations(pool, 1)
    expect(await left(pool)).toEqual(['b 1'])
    await somebody.query('commit')
    for (let n = 0; n < 2; n++) await sweep({ pool }) // the rest of this round, and the next
    expect(await left(pool)).toEqual([])
  })

  test('among 30,000 rows a step looks at few pages and scans no table', async ({
    pool,
    connected,
  }) => {
    await pool.query(
      `begin; set local session_replication_role = replica;
       insert into threads (id, provider) select 't ' || n, 'responses' from generate_series(1, 3000) n;
       insert into thread_operations (id, thread_id, operation, status, turn, created_at, finished_at)
       select n, 't ' || (n % 3000 + 1), 'add_message', 'completed', n / 3000 + 1, now() - interval '3 days', now() - interval '2 days'
         from generate_series(1, 30000) n;
       insert into operation_events (operation_id, thread_id, from_status, to_status, attempt, actor)
       select id, thread_id, 'pending', 'completed', 1, 'd' from thread_operations;
       commit`,
    )
    await pool.query('vacuum analyze')
    await setPolicy(pool, 'kept', { pattern: 'any', operation_retention: '10 days' })
    await setPolicy(pool, 'p', { operation_retention: '1 day' })
    await pool.query(`update threads set policy = 'p' where id like 't 1%'`)
    const client = await connected()
    await explain(client)
    let pruned = 0
    const { pages, scans, largest } = await workOf(client, async () => {
      pruned = (await pruneOperations(client as never, 500)).pruned
    })
    expect(pruned).toBeGreaterThan(100)
    const whole =
      /^Seq Scan (thread_operations|threads|operation_events|operation_stream|tool_calls)$/
    expect(scans.filter((scan) => whole.test(scan))).toEqual([])
    expect(pages, largest.join('\n')).toBeLessThan(30_000)
  })
})

describe('the ledger', () => {
  test('refuses everybody else, whatever they set or say', async ({ pool, connected }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a'])
    const client = await connected()
    const refused = (statement: string) =>
      expect(client.query(statement), statement).rejects.toMatchObject({
        constraint: 'ledger_is_append_only',
      })
    await client.query(`set inturn.line = 'on'; set inturn.prune = 'on'`)
    await refused('delete from operation_events')
    await refused(
      `delete from operation_events /* \nPL/pgSQL function prune_operations(integer) line 1 at SQL statement*/`,
    )
    const frame = String.raw`\nPL/pgSQL function prune_operations(integer) line 1 at SQL statement`
    await refused(`do $$ begin execute E'delete from operation_events /* ${frame} */'; end $$`)
    await client.query(`
      create function prune(p integer) returns void language plpgsql as $$ begin delete from operation_events; end $$;
      create schema other;
      create function other.prune_operations(p integer) returns void language plpgsql as $$ begin delete from operation_events; end $$`)
    await refused('select prune(1)')
    await refused('select other.prune_operations(1)')
    expect(await count(pool, 'operation_events')).toBe(2)
  })

  test('keeps what is told of operations that somebody else deletes', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a'])
    await pool.query('delete from thread_operations')
    await ageBy(pool, '2 days')
    await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '1 day' })
    await sweep({ pool })
    expect(await count(pool, 'operation_events')).toBe(2)
  })

  test('is pruned for a role that has no rights but to call the sweep', async ({
    pool,
    connected,
  }) => {
    const dispatcher = await HandDriven.signOn(await connected())
    await serve(pool, dispatcher, ['a'])
    await ageBy(pool, '2 days')
    await setPolicy(pool, 'p', { pattern: 'any', operation_retention: '1 day' })
    const client = await connected()
    const role = `sweeper_${process.pid}`
    await client.query(
      `create role ${role}; grant delete on operation_events to ${role}; set role ${role}`,
    )
    try {
      await expect(client.query('delete from operation_events')).rejects.toMatchObject({
        constraint: 'ledger_is_append_only',
      })
      expect(await pruneOperations(client as never, 10)).toMatchObject({ pruned: 1 })
    } finally {
      await client.query(`reset role; drop owned by ${role}; drop role ${role}`)
    }
    expect(await count(pool, 'operation_events')).toBe(0)
  })
})

describe('archives', () => {
  const archive = async (pool: pg.Pool, thread: string) => {
    const { rows } = await pool.query(
      `with archive as (
         insert into thread_archives (thread_id, generation, operation_id, provider, provider_thread_id, reason, messages, items, runs, verified_at)
         values ($1, 1, 1, 'responses', 'conv', 'requested', 2, 2, 1, now()) returning id
       ), messages as (
         insert into archived_messages (archive_id, position, item_id, type, item)
         select id, n, 'item ' || n, 'message', '{}' from archive, generate_series(1, 2) n
       ), runs as (
         insert into archived_runs (archive_id, turn, operation_id) select id, 1, 1 from archive
       )
       insert into thread_generations (thread_id, generation, provider, provider_thread_id, archive_id)
       select $1, 1, 'responses', 'conv', id from archive returning archive_id`,
      [thread],
    )
    return rows[0].archive_id as number
  }

  test('go when their time is over, and then all that they held; those of other policies stay', async ({
    pool,
  }) => {
    await archive(pool, 'a')
    const kept = await archive(pool, 'kept')
    await ageBy(pool, '40 days')
    const young = await archive(pool, 'b')
    await pool.query(`insert into threads (id, user_id) values ('kept', '42')`)
    await setPolicy(pool, 'month', { pattern: 'any', archive_retention: '30 days' })
    await setPolicy(pool, 'users', { pattern: 'user', archive_retention: '1 year' })
    expect(await pruneArchives(pool, 20)).toEqual({ looked: 3, pruned: 1, is_round: true })
    await sweep({ pool })
    expect(await count(pool, 'unfinished_archives')).toBe(0)
    const idsOf = async (table: string, column: string) =>
      (await pool.query(`select distinct ${column} as id from ${table} order by 1`)).rows.map(
        ({ id }) => id,
      )
    for (const [table, column] of [
      ['thread_archives', 'id'],
      ['archived_messages', 'archive_id'],
      ['archived_runs', 'archive_id'],
    ] as const) {
      expect(await idsOf(table, column), table).toEqual([kept, young])
    }
    const { rows } = await pool.query(
      'select thread_id, archive_id from thread_generations order by thread_id',
    )
    expect(rows).toEqual([
      { thread_id: 'a', archive_id: null },
      { thread_id: 'b', archive_id: young },
      { thread_id: 'kept', archive_id: kept },
    ])
    const { rows: prunings } = await pool.query('select policy, archives from prunings')
    expect(prunings).toEqual([{ policy: 'month', archives: 1 }])
  })

  test('whoever reads one that goes at that moment is told, and gets nothing with a gap', async ({
    pool,
  }) => {
    const id = await archive(pool, 'a')
    await pool.query(
      `insert into archived_messages (archive_id, position, item_id, type, item)
       select $1, n, 'item ' || n, 'message', '{}' from generate_series(3, 300) n`,
      [id],
    )
    await pool.query('update thread_archives set items = 300')
    const database = { query: queryOn(pool), schema: 'public' }
    const reader = itemsOf(database, await requireArchive(database, id))
    for (let n = 1; n <= 100; n++) await reader.next()
    await ageBy(pool, '40 days')
    await setPolicy(pool, 'month', { pattern: 'any', archive_retention: '30 days' })
    await pruneArchives(pool, 20)
    expect(await deleteUnfinishedArchives(pool, 150)).toBe(150)
    await expect(reader.next()).rejects.toMatchObject({ code: 'archive_not_found' })
    await sweep({ pool })
    expect(await count(pool, 'archived_messages')).toBe(0)
  })

  test('one that somebody reads under a lock stays until the next round', async ({
    pool,
    connected,
  }) => {
    await archive(pool, 'a')
    await ageBy(pool, '40 days')
    await setPolicy(pool, 'month', { pattern: 'any', archive_retention: '30 days' })
    const reader = await connected()
    await reader.query('begin; select from thread_archives for key share')
    expect(await pruneArchives(pool, 20)).toMatchObject({ pruned: 0 })
    await reader.query('commit')
    expect(await pruneArchives(pool, 20)).toMatchObject({ pruned: 1 })
  })
})

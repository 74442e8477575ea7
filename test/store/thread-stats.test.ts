import type pg from 'pg'
import { describe, expect } from 'vitest'
import { queryOn } from '../../src/db/query.ts'
import { listThreadStats, readThreadStats } from '../../src/store/thread-stats.ts'
import { startLine, who } from '../operations/line.ts'
import { explain, type Work, workOf } from '../support/explained.ts'
import { insertRow, moveTo } from '../support/line.ts'
import { test } from '../support/own-database.ts'

const statsOf = async (pool: pg.Pool, id: string) =>
  await readThreadStats({ query: queryOn(pool), schema: 'public' }, id)

describe('thread_stats', () => {
  test('counts what a thread has had, in all and since its provider thread began', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses')
    await pool.query(`select get_thread('42', p_labels => '{"team": "red"}')`)
    await line.do('user:42', 'add_message', { message: 'Hi' })
    const { result } = await line.do('user:42', 'add_message_and_run', { message: 'Ho', ...who })
    const { input_tokens, output_tokens } = result.usage
    const tokens = input_tokens + output_tokens
    const so_far = { messages_total: 3, runs: 1, input_tokens, output_tokens }
    expect(await statsOf(pool, 'user:42')).toMatchObject({
      state: 'idle',
      user_id: '42',
      labels: { team: 'red' },
      provider: 'responses',
      provider_thread_id: result.provider_thread_id,
      generation: 1,
      generation_since: expect.any(Date),
      policy: null,
      messages: 3,
      tokens,
      ...so_far,
      waiting: 0,
      active_operation_id: null,
      active_run_id: null,
      last_run_id: result.run.id,
      last_run_status: 'completed',
      expires_at: null,
      rotates_at_messages: null,
      warning: null,
      archives: 0,
      last_archived_at: null,
    })

    await pool.query('update threads set provider_thread_id = null')
    expect(await statsOf(pool, 'user:42')).toMatchObject({ messages: 0, tokens: 0, ...so_far })
    await line.do('user:42', 'add_message', { message: 'Anew' })
    expect(await statsOf(pool, 'user:42')).toMatchObject({
      generation: 2,
      messages: 1,
      tokens: 0,
      messages_total: 4,
    })
  })

  test('names the run that may be going on, also while its operation waits', async ({ pool }) => {
    await pool.query(`insert into threads (id) values ('t')`)
    const { id } = await insertRow(pool, {
      thread_id: 't',
      operation: 'create_run',
      data: { model: 'm' },
    })
    await insertRow(pool, { thread_id: 't' })
    expect(await statsOf(pool, 't')).toMatchObject({ waiting: 2, active_run_id: null })
    await moveTo(pool, id, 'processing', { progress: { run_id: 'resp_1' } })
    const active = { active_operation_id: id, active_operation: 'create_run' }
    expect(await statsOf(pool, 't')).toMatchObject({
      waiting: 1,
      active_run_id: 'resp_1',
      ...active,
    })
    await moveTo(pool, id, 'pending', { progress: { run_id: 'resp_1' } })
    expect(await statsOf(pool, 't')).toMatchObject({
      waiting: 2,
      active_operation_id: null,
      active_run_id: 'resp_1',
    })
    const failed = { run_id: 'resp_1', failed_run_ids: ['resp_1'] }
    await moveTo(pool, id, 'processing', { progress: failed })
    expect(await statsOf(pool, 't')).toMatchObject({ active_run_id: null, last_run_id: 'resp_1' })
  })

  test('tells the policy that counts now, and when the thread expires by it', async ({ pool }) => {
    const at = new Date('2026-01-01T00:00:00Z')
    await pool.query(
      `insert into threads (id, user_id, provider, provider_thread_id, last_active_at)
       values ('t', '42', 'assistants', 'thread_1', $1)`,
      [at],
    )
    await pool.query('update threads set generation_since = $1', [at])
    await pool.query(
      `insert into thread_policies (name, pattern, absolute_ttl, idle_ttl, max_age, max_messages, max_tokens) values
         ('all', 'any', null, '1 day', null, null, null), ('users', 'user', '1 hour', '2 hours', '3 hours', 500, 9000)`,
    )
    expect(await statsOf(pool, 't')).toMatchObject({
      policy: 'users',
      expires_at: new Date('2026-01-01T01:00:00Z'),
      expires_because: 'absolute',
      rotates_after: new Date('2026-01-01T03:00:00Z'),
      rotates_at_messages: 500,
      rotates_at_tokens: 9000,
    })
    await pool.query(`update threads set policy = 'all'`)
    expect(await statsOf(pool, 't')).toMatchObject({
      policy: 'all',
      expires_at: new Date('2026-01-02T00:00:00Z'),
      expires_because: 'idle',
      rotates_after: null,
      rotates_at_messages: null,
    })
    await pool.query(`update threads set closed_at = now()`)
    expect(await statsOf(pool, 't')).toMatchObject({ state: 'closed', expires_at: null })
    await pool.query(`update threads set deleted_at = now()`)
    expect(await statsOf(pool, 't')).toMatchObject({ state: 'deleted' })
  })

  test("says that a thread is expired until something is in its line, and warns of the provider's limit", async ({
    pool,
  }) => {
    await pool.query(
      `insert into threads (id, provider, provider_thread_id) values ('t', 'assistants', 'thread_1')`,
    )
    await pool.query(`update threads set messages_so_far = 79999`)
    expect(await statsOf(pool, 't')).toMatchObject({
      state: 'idle',
      messages: 79999,
      warning: null,
    })
    await pool.query(`update threads set messages_so_far = 80000`)
    expect((await statsOf(pool, 't'))?.warning).toMatch(/^80000 of the 100000 messages/)
    await pool.query(
      `update thread_generations set ended_by = 'expired'; update threads set provider_thread_id = null`,
    )
    expect(await statsOf(pool, 't')).toMatchObject({ state: 'expired', warning: null })
    await insertRow(pool, { thread_id: 't' })
    expect(await statsOf(pool, 't')).toMatchObject({ state: 'active' })
  })
})

describe('among 100,000 threads', () => {
  /** A hundred users with a thousand threads each, a tenth of them labelled; ten operations on each tenth thread. */
  const load = async (pool: pg.Pool) => {
    const client = await pool.connect()
    try {
      await client.query('set session_replication_role = replica')
      await client.query(`
        insert into threads (id, user_id, session_id, labels, provider, provider_thread_id, generation, generation_since)
        select thread_key('u' || i % 100, 's' || i), 'u' || i % 100, 's' || i,
               case when i % 1000 = 0 then '{"team": "red"}' else '{}' end::jsonb, 'responses', 'conv_' || i, 1, now()
          from generate_series(1, 100000) i;
        insert into thread_generations (thread_id, generation, provider, provider_thread_id)
        select id, 1, provider, provider_thread_id from threads;
        insert into thread_operations (id, thread_id, operation, status, turn, attempts, finished_at, messages_so_far)
        select nextval('thread_operations_id_seq'), t.id, 'add_message', 'completed', n, 1, now(), n
          from threads t cross join generate_series(1, 10) n where t.session_id like '%0';
        insert into thread_operations (id, thread_id, operation, place)
        select n, 'hot', 'add_message', n from (select nextval('thread_operations_id_seq') as n from generate_series(1, 20000)) as s;
        insert into thread_archives (thread_id, generation, operation_id, provider, provider_thread_id, reason, messages, items, runs, verified_at)
        select id, 1, 0, 'responses', provider_thread_id, 'requested', 0, 0, 0, now() from threads where session_id like '%00';
        insert into thread_policies (name, pattern, idle_ttl) values ('all', 'any', '30 days')`)
      await client.query('set session_replication_role = origin')
      return client
    } catch (error) {
      client.release(true)
      throw error
    }
  }

  test.for([false, true])(
    'one, and a page of any kind, cost index probes only (analyzed: %s)',
    { timeout: 60_000 },
    async (isAnalyzed, { pool, skip }) => {
      const { rows } = await pool.query(
        'select rolsuper from pg_roles where rolname = current_user',
      )
      if (!rows[0].rolsuper) skip('needs a superuser, who alone may have plans explained')
      const client = await load(pool)
      try {
        if (isAnalyzed) await pool.query('vacuum analyze')
        await explain(client)
        const database = { query: queryOn(client), schema: 'public' }
        const pages: Record<string, () => Promise<unknown[]>> = {
          one: () =>
            client
              .query(`select * from thread_stats where thread_id = 'user:u10:session:s10'`)
              .then(({ rows }) => rows),
          first: () => listThreadStats(database, {}),
          'by SQL': () =>
            client
              .query(
                `select * from thread_stats where thread_id > 'user:u5' order by thread_id limit 100`,
              )
              .then(({ rows }) => rows),
          later: () => listThreadStats(database, { after: 'user:u5' }),
          'of a user': () => listThreadStats(database, { user: 'u7' }),
          'of a session': () => listThreadStats(database, { session: 's7' }),
          'with a label': () => listThreadStats(database, { labels: { team: 'red' } }),
          'by state': () => listThreadStats(database, { user: 'u7', state: 'idle' }),
        }
        const expected: Record<string, number> = { one: 1, 'of a session': 1 }
        for (const [name, page] of Object.entries(pages)) {
          let found: unknown[] = []
          const {
            scans,
            largest,
            pages: looked,
          }: Work = await workOf(client, async () => {
            found = await page()
          })
          expect(found, name).toHaveLength(expected[name] ?? 100)
          const whole = scans.filter((scan) => /^Seq Scan (?!thread_policies)/.test(scan))
          expect(whole, `${name} reads a table from one end to the other`).toEqual([])
          expect(looked, `${name}: ${largest.join('\n')}`).toBeLessThan(
            name === 'by state' ? 30_000 : 5_000,
          )
        }
      } finally {
        client.release(true)
      }
    },
  )
})

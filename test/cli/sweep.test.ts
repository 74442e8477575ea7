import { expect } from 'vitest'
import { askedToExpire, insertIdleThreads, setPolicy } from '../lifecycle/idle-threads.ts'
import { test } from '../support/own-database.ts'
import { inturn } from './cli.ts'

test('sweep does once what policies ask for, without dispatchers and without pg-boss, and says what', async ({
  url,
  pool,
}) => {
  await pool.query('drop schema public_boss cascade')
  const nothing = await inturn(['sweep'], { databaseUrl: url })
  expect(nothing).toEqual({
    code: 0,
    stdout:
      'expiry: asked for the end of 0 conversations (0 under way)\nretention: deleted 0 operations and 0 archives\n',
    stderr: '',
  })
  await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day', operation_retention: '1 hour' })
  await insertIdleThreads(pool, { count: 3 })
  await pool.query(
    `begin; set local session_replication_role = replica;
     insert into thread_operations (id, thread_id, operation, status, created_at, finished_at)
     select n, 'old', 'add_message', 'cancelled', now() - interval '1 day', now() - interval '1 day' from generate_series(1, 2) n;
     insert into threads (id, provider, provider_thread_id, messages_so_far) values ('long', 'assistants', 'thread_1', 99000);
     insert into thread_generations (thread_id, generation, provider, provider_thread_id) values ('long', 0, 'assistants', 'thread_1');
     commit; select setval('thread_operations_id_seq', 10)`,
  )
  const { stdout } = await inturn(['sweep'], { databaseUrl: url })
  expect(stdout).toBe(
    [
      'expiry: asked for the end of 3 conversations (3 under way)',
      'retention: deleted 2 operations and 0 archives',
      'warning: long holds 99000 of the 100000 messages that the provider takes: rotate_thread begins anew, and max_messages of a policy has it done in time\n',
    ].join('\n'),
  )
  const json = await inturn(['sweep', '--json'], { databaseUrl: url })
  expect(JSON.parse(json.stdout)).toMatchObject({
    expiries_requested: 0,
    expiries_under_way: 3,
    operations_pruned: 0,
    archives_pruned: 0,
    near_limit: [{ thread_id: 'long', messages: 99_000 }],
  })
  expect(await askedToExpire(pool)).toHaveLength(3)
})

test('sweep says what is missing in a database that was not migrated', async ({ url, pool }) => {
  await pool.query('drop schema public cascade; create schema public')
  const { code, stderr } = await inturn(['sweep'], { databaseUrl: url })
  expect(code).toBe(1)
  expect(stderr).toContain('inturn migrate')
})

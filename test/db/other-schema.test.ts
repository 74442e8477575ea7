import { expect } from 'vitest'
import { migrate } from '../../src/db/migrate.ts'
import { createPool } from '../../src/db/pool.ts'
import { operationData } from '../../src/operations/data/index.ts'
import { dataCheckSql } from '../../src/operations/data-check.ts'
import { emptyDatabase, test } from '../support/database.ts'
import { insertRow, readRow, refusal } from '../support/line.ts'
import { withClient } from '../support/query.ts'

test('in a schema of its own, everything works from a session that looks elsewhere', async () => {
  await using database = await emptyDatabase()
  await migrate({
    databaseUrl: database.url,
    schema: 'queue',
    generatedSql: dataCheckSql(operationData),
  })
  await withClient(database.url, async (client) => {
    const insert = (data: object) =>
      client.query(
        `insert into queue.thread_operations (thread_id, operation, data)
         values ('t', 'add_message', $1) returning *`,
        [data],
      )
    const update = (change: string) =>
      client.query(`update queue.thread_operations set ${change} where place =
                     (select min(place) from queue.thread_operations)`)
    await insert({ message: 'one' })
    await insert({ message: 'two' })
    expect((await refusal(insert({}))).constraint).toBe('operation_data_is_valid')
    await update(`data = '{"message": "changed"}'`)
    expect((await refusal(update(`data = '{}'`))).constraint).toBe('operation_data_is_valid')
    expect((await refusal(update('turn = 1'))).constraint).toBe('line_column_is_guarded')
    await update(`status = 'cancelled'`)
    const read = async (sql: string) => (await client.query(sql)).rows
    expect(await read('select waiting, state from queue.thread_states')).toEqual([
      { waiting: '1', state: 'active' },
    ])
    expect(await read('select waits_for from queue.waiting_operations')).toEqual([
      { waits_for: 'no dispatcher is running' },
    ])
    expect(await read('select event from queue.thread_timeline')).toHaveLength(3)
    await client.query('delete from queue.thread_operations where finished_at is not null')
  })

  const pool = createPool(database.url, { schema: 'queue', max: 1 })
  try {
    const { id } = await insertRow(pool, { thread_id: 'by the pool' })
    expect(await readRow(pool, id)).toMatchObject({ status: 'pending' })
  } finally {
    await pool.end()
  }
})

test('tables of the caller that are named like ours are not taken for ours', async ({ url }) => {
  await withClient(url, async (client) => {
    await client.query(`
      create temporary table threads (id text, provider text, closed_at timestamptz);
      insert into threads values ('shadowed', 'nonsense', now());
      create temporary table operation_events (id bigint);
      create temporary table dispatchers (asleep boolean);`)
    const { rows } = await client.query(
      `insert into public.thread_operations (thread_id, operation) values ('shadowed', 'create_thread') returning id`,
    )
    await client.query(`update public.thread_operations set status = 'cancelled' where id = $1`, [
      rows[0].id,
    ])
    const { rowCount } = await client.query(
      `select from public.operation_events where operation_id = $1`,
      [rows[0].id],
    )
    expect(rowCount).toBe(1)
  })
})

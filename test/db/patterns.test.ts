import { describe, expect } from 'vitest'
import { refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'

describe('thread_key', () => {
  test.for([
    [['42', null, null], 'user:42'],
    [['42', null, 'billing'], 'user:42:topic:billing'],
    [[null, '9', null], 'session:9'],
    [['42', '9', 'billing'], 'user:42:session:9:topic:billing'],
    [['a:topic:b', null, null], 'user:a%3Atopic%3Ab'],
    [['a', null, 'b'], 'user:a:topic:b'],
    [['%3A', null, null], 'user:%253A'],
    [[null, null, null], null],
  ] as const)('%j is %s', async ([keys, id], { pool }) => {
    const { rows } = await pool.query('select thread_key($1, $2, $3) as id', [...keys])
    expect(rows).toEqual([{ id }])
  })
})

describe('get_thread', () => {
  test('leaves a row as it is, except that one without any key gets these', async ({ pool }) => {
    await pool.query(
      `insert into threads (id, user_id, if_busy, labels) values
         ('user:1', null, 'reject', '{"a": 1}'), ('user:2', 'somebody else', 'enqueue', '{}')`,
    )
    const get = async (user: string) =>
      (await pool.query(`select * from get_thread($1, p_labels => '{"b": 2}')`, [user])).rows[0]
    expect(await get('1')).toMatchObject({ user_id: '1', if_busy: 'reject', labels: { a: 1 } })
    expect(await get('2')).toMatchObject({ user_id: 'somebody else', labels: {} })
  })

  test('writes one row whoever asks, also in transactions that see less, or says 40001', async ({
    pool,
    connected,
  }) => {
    const clients = await Promise.all(Array.from({ length: 12 }, connected))
    const levels = ['read committed', 'repeatable read', 'serializable']
    for (let round = 0; round < 20; round++) {
      const ends = await Promise.all(
        clients.map(async (client, i) => {
          await client.query(`begin isolation level ${levels[i % 3]}`)
          await client.query('select 1 from threads limit 1') // the snapshot
          try {
            const { rows } = await client.query('select id from get_thread($1)', [`${round}`])
            await client.query('commit')
            return rows[0].id
          } catch (error) {
            await client.query('rollback')
            return (error as { code: string }).code
          }
        }),
      )
      const committed = ends.filter((_, i) => i % 3 === 0)
      expect(committed).toEqual(committed.map(() => `user:${round}`))
      expect(ends.filter((end) => end !== '40001' && end !== `user:${round}`)).toEqual([])
    }
    const { rows } = await pool.query('select count(*)::int as count from threads')
    expect(rows).toEqual([{ count: 20 }])
  })

  test.for([
    ['select get_thread()', 'thread_has_a_key'],
    [`select get_thread('')`, 'thread_keys_have_1_to_255_characters'],
    [`select get_thread(repeat('x', 256))`, 'thread_keys_have_1_to_255_characters'],
    [`select get_thread(repeat(':', 100))`, 'thread_id_has_1_to_255_characters'],
    [`select get_thread('1', p_labels => '["red"]')`, 'thread_labels_are_an_object'],
    [`select adopt_threads(null, '{}', p_topic => '')`, 'thread_keys_have_1_to_255_characters'],
    [`select adopt_threads(null, '{user:42}')`, 'provider_thread_id_is_one'],
    [`select adopt_threads('assistants', array['two words'])`, 'provider_thread_id_is_one'],
    [`select adopt_threads('responses', array[null])`, 'provider_thread_id_is_one'],
    [`select adopt_threads('others', '{}')`, 'thread_provider_is_known'],
  ] as const)('%s is refused: %s', async ([sql, constraint], { pool }) => {
    const refused = await refusal(pool.query(sql))
    expect(refused).toMatchObject({ code: '23514', constraint, hint: expect.stringMatching(/\w/) })
  })

  test('a number is no key', async ({ pool }) => {
    expect((await refusal(pool.query('select get_thread(42)'))).code).toBe('42883')
  })
})

describe('adopt_threads', () => {
  const conversations = ['a', 'b', 'c'].map((digit) => `conv_${digit.repeat(32)}`)

  test('asks for each once, behind what is served at the usual priority', async ({ pool }) => {
    const adopt = (...more: string[]) =>
      pool.query(`select * from adopt_threads(null, $1${more.join('')})`, [conversations])
    expect((await adopt(`, 'ann', p_labels => '{"a": 1}'`)).rowCount).toBe(3)
    expect((await adopt(`, 'bob', p_topic => 'x', p_labels => '{"a": 2, "b": 3}'`)).rowCount).toBe(
      0,
    )
    const { rows } = await pool.query(
      `select o.operation, o.data, o.priority, t.user_id, t.topic, t.labels
         from thread_operations o join threads t on t.id = o.thread_id order by o.id`,
    )
    expect(rows).toEqual(
      conversations.map((provider_thread_id) => ({
        operation: 'create_thread',
        data: { provider: 'responses', provider_thread_id },
        priority: -10,
        user_id: 'ann',
        topic: 'x',
        labels: { a: 1, b: 3 },
      })),
    )
  })

  test('takes ids of any shape where their provider is named, and writes no row without a key', async ({
    pool,
  }) => {
    await pool.query(`select adopt_threads('assistants', '{old-thread-1}')`)
    const { rows } = await pool.query('select thread_id, data from thread_operations')
    expect(rows).toEqual([
      {
        thread_id: 'old-thread-1',
        data: { provider: 'assistants', provider_thread_id: 'old-thread-1' },
      },
    ])
    expect((await pool.query('select from threads')).rowCount).toBe(0)
  })
})

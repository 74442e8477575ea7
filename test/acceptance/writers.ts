import pg from 'pg'
import type { Sent } from '../support/promised-order.ts'
import type { Random } from '../support/random.ts'

const isolations = ['read committed', 'repeatable read', 'serializable'] as const

/**
 * `writers` connections, each sending `transactions` transactions of random length, isolation and
 * outcome (commit, roll back, roll back to a savepoint) with operations of mixed kinds.
 */
export async function writeAtRandom(options: {
  url: string
  threads: readonly string[]
  writers: number
  transactions: number
  random: Random
}): Promise<Sent[]> {
  const { threads, random } = options
  const sent: Sent[] = []
  let clock = 0
  let transactions = 0

  async function insert(client: pg.Client, transaction: number): Promise<Sent> {
    const text = `m${sent.length}-${random.below(1e9)}`
    const [operation, data] = random.of([
      ['add_message', { message: text }],
      ['add_message_and_run', { message: text, model: 'gpt-4o', assistant_id: 'asst_test' }],
      ['update_thread', { metadata: { seen: text } }],
    ] as const)
    const insertBegan = ++clock
    const row: Sent = {
      id: 0,
      thread: random.of(threads),
      transaction,
      insertBegan,
      committed: null,
    }
    const { rows } = await client.query(
      'insert into thread_operations (thread_id, operation, data) values ($1, $2, $3) returning id',
      [row.thread, operation, data],
    )
    row.id = Number(rows[0].id)
    sent.push(row)
    return row
  }

  async function write(client: pg.Client): Promise<void> {
    const transaction = ++transactions
    const kept: Sent[] = []
    try {
      await client.query(`begin isolation level ${random.of(isolations)}`)
      if (random.chance(0.3)) await client.query('select count(*) from threads') // takes the snapshot now
      const length = 1 + random.below(5)
      for (let i = 0; i < length; i++) {
        await client.query('savepoint s')
        const row = await insert(client, transaction)
        if (random.chance(0.1)) await client.query('rollback to savepoint s')
        else kept.push(row)
        if (random.chance(0.3)) await client.query('select pg_sleep($1)', [random.next() * 0.03])
      }
      if (random.chance(0.15)) {
        await client.query('rollback')
        return
      }
      await client.query('commit')
      const committed = ++clock
      for (const row of kept) row.committed = committed
    } catch (error) {
      await client.query('rollback')
      if ((error as { code?: string }).code !== '40001') throw error
    }
  }

  await Promise.all(
    Array.from({ length: options.writers }, async () => {
      const client = new pg.Client({ connectionString: options.url })
      await client.connect()
      try {
        for (let i = 0; i < options.transactions; i++) await write(client)
      } finally {
        await client.end()
      }
    }),
  )
  return sent
}

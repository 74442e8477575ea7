import pg from 'pg'

/** What a writer sent, and what it saw of it, on one clock that counts up with each event of any writer. */
export type Sent = {
  id: number
  thread: string
  operation: string
  /** Text of the message, when the operation brings one; null otherwise. */
  text: string | null
  transaction: number
  insertBegan: number
  /** Null: rolled back, or refused by the database (40001 under SERIALIZABLE). */
  committed: number | null
}

const isolations = ['read committed', 'repeatable read', 'serializable'] as const

/** Numbers from 0 to 1 that the same seed repeats (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/**
 * `writers` connections, each sending `transactions` transactions of random length, isolation and
 * outcome (commit, roll back, roll back to a savepoint) with operations of mixed kinds.
 */
export async function writeAtRandom(options: {
  url: string
  threads: readonly string[]
  writers: number
  transactions: number
  random: () => number
}): Promise<Sent[]> {
  const { threads, random } = options
  const sent: Sent[] = []
  let clock = 0
  let transactions = 0
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T

  async function insert(client: pg.Client, transaction: number): Promise<Sent> {
    const text = `m${sent.length}-${Math.floor(random() * 1e9)}`
    const [operation, data] = pick([
      ['add_message', { message: text }],
      ['add_message_and_run', { message: text, model: 'gpt-4o', assistant_id: 'asst_test' }],
      ['update_thread', { metadata: { seen: text } }],
    ] as const)
    const insertBegan = ++clock
    const row: Sent = {
      id: 0,
      thread: pick(threads),
      operation,
      text: operation === 'update_thread' ? null : text,
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
      await client.query(`begin isolation level ${pick(isolations)}`)
      if (random() < 0.3) await client.query('select count(*) from threads') // takes the snapshot now
      const length = 1 + Math.floor(random() * 5)
      for (let i = 0; i < length; i++) {
        await client.query('savepoint s')
        const row = await insert(client, transaction)
        if (random() < 0.1) await client.query('rollback to savepoint s')
        else kept.push(row)
        if (random() < 0.3) await client.query('select pg_sleep($1)', [random() * 0.03])
      }
      if (random() < 0.15) {
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

/** Pairs of one thread for which `turnOf` breaks the order that the line promises. */
export function brokenPromises(sent: readonly Sent[], turnOf: Map<number, number>): string[] {
  const broken: string[] = []
  const byThread = Map.groupBy(
    sent.filter(({ committed }) => committed !== null),
    ({ thread }) => thread,
  )
  for (const [thread, rows] of byThread) {
    for (const first of rows) {
      for (const second of rows) {
        const mustPrecede =
          first.transaction === second.transaction
            ? first.insertBegan < second.insertBegan
            : (first.committed as number) < second.insertBegan
        if (mustPrecede && (turnOf.get(first.id) as number) >= (turnOf.get(second.id) as number)) {
          broken.push(`${thread}: ${second.id} started before ${first.id}`)
        }
      }
    }
  }
  return broken
}

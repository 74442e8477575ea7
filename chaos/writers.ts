import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '../src/db/connect.ts'
import type { Sent } from '../test/support/promised-order.ts'
import type { PlannedTransaction } from './plan.ts'

/** A service that inserts: on a connection of its own, which it opens again when it is lost. */
export async function write(
  databaseUrl: string,
  transactions: readonly PlannedTransaction[],
  { due, clock, sent }: Writing,
): Promise<void> {
  let client: Client | undefined
  try {
    for (const transaction of transactions) {
      await due(transaction.atMs)
      try {
        client ??= await connect(databaseUrl, { applicationName: 'chaos writer' })
        await writeOne(client, transaction, { clock, sent })
      } catch {
        // Refused (40001), or the connection is gone: what was sent of it says how far it came.
        await client?.end().catch(() => {})
        client = undefined
      }
    }
  } finally {
    await client?.end().catch(() => {})
  }
}

export type Writing = {
  /** Resolves when it is time, as long after the start as told; rejects when all is called off. */
  due: (atMs: number) => Promise<void>
  /** Counts up with every call, whoever calls. */
  clock: () => number
  sent: Sent[]
}

const none = { ifBusy: null, debounceMs: null, scheduledInMs: null }

type Client = Awaited<ReturnType<typeof connect>>

async function writeOne(
  client: Client,
  transaction: PlannedTransaction,
  { clock, sent }: Pick<Writing, 'clock' | 'sent'>,
): Promise<void> {
  const { isolation, snapshotMs, operations, commits, cancels } = transaction
  const number = clock()
  await client.query(`begin isolation level ${isolation}`)
  if (snapshotMs !== null) {
    await client.query('select count(*) from threads')
    await sleep(snapshotMs)
  }
  const kept: Sent[] = []
  for (const { thread, operation, data, joins, undone, pauseMs } of operations) {
    if (undone) await client.query('savepoint before')
    const insertBegan = clock()
    const { ifBusy, debounceMs, scheduledInMs } = { ...none, ...joins }
    const { rows } = await client.query(
      `insert into thread_operations (thread_id, operation, data, if_busy, debounce_ms, scheduled_at)
       values ($1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 millisecond') returning id`,
      [thread, operation, data, ifBusy, debounceMs, scheduledInMs],
    )
    const row = {
      id: Number(rows[0].id),
      thread,
      transaction: number,
      insertBegan,
      committed: null,
    }
    if (undone) await client.query('rollback to savepoint before')
    else kept.push(row)
    await sleep(pauseMs)
  }
  if (!commits) return void (await client.query('rollback'))
  // Should the answer be lost, the table says whether it was committed; nobody knows when.
  for (const row of kept) row.committed = Number.POSITIVE_INFINITY
  sent.push(...kept)
  await client.query('commit')
  const committed = clock()
  for (const row of kept) row.committed = committed
  if (cancels && kept.length > 0)
    await client.query(
      "update thread_operations set status = 'cancelled' where id = $1 and status = 'pending'",
      [kept.at(-1)?.id],
    )
}

import type pg from 'pg'
import {
  allOrNothing,
  type CallerTransaction,
  type Database,
  type Query,
  queryOn,
} from '../db/query.ts'
import { InturnError } from '../errors.ts'
import { enqueueRows } from '../store/enqueue-rows.ts'
import { IdempotencyConflictError } from './errors.ts'
import { explaining } from './explain-error.ts'
import type { NewOperation } from './new-operation.ts'

type Target = Database & { pool: pg.Pool }

/** Inserts all operations or none, on the pool or within the caller's transaction; gives their ids. */
export async function insertOperations(
  { pool, query, schema }: Target,
  operations: readonly NewOperation[],
  transaction: CallerTransaction | undefined,
): Promise<number[]> {
  const insertBy = (by: Query) => insert({ query: by, schema }, operations)
  // One statement is all or nothing by itself, but a key's conflict only shows after it.
  const half = operations.length > 1 && operations.some((o) => o.idempotencyKey !== undefined)
  if (transaction) {
    const by = queryIn(transaction)
    return half ? allOrNothing(by, 'savepoint', () => insertBy(by)) : insertBy(by)
  }
  if (!half) return insertBy(query)
  const client = await pool.connect()
  try {
    const by = explaining(queryOn(client))
    return await allOrNothing(by, 'transaction', () => insertBy(by))
  } finally {
    client.release()
  }
}

/** Statements in the caller's transaction. Throws `transaction_invalid`. */
const queryIn = (transaction: CallerTransaction): Query => explaining(queryOn(checked(transaction)))

/** The tables as the caller's transaction sees them, where there is one. */
export const databaseIn = (
  database: Database,
  transaction: CallerTransaction | undefined,
): Database => (transaction ? { ...database, query: queryIn(transaction) } : database)

async function insert(database: Database, operations: readonly NewOperation[]): Promise<number[]> {
  const rows = await enqueueRows(database, operations)
  return rows.map(({ id, same }, index) => {
    const { thread, idempotencyKey = '' } = operations[index] as NewOperation
    if (!same) throw new IdempotencyConflictError(thread, idempotencyKey, id)
    return id
  })
}

/** A pool or a whole Prisma client would insert beside the caller's transaction, and nobody would notice. */
function checked(transaction: CallerTransaction): CallerTransaction {
  const isPrisma = '$queryRawUnsafe' in transaction
  const isWhole = isPrisma
    ? typeof (transaction as { $connect?: unknown }).$connect === 'function'
    : 'totalCount' in transaction || typeof transaction.query !== 'function'
  if (!isWhole) return transaction
  throw new InturnError(
    'transaction_invalid',
    'transaction must be the client that your open transaction runs on',
    {
      hint: isPrisma
        ? 'Pass the client that prisma.$transaction(async (transaction) => …) hands to its callback.'
        : 'Pass the pg client on which you have sent BEGIN, such as one from pool.connect().',
    },
  )
}

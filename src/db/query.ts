import type pg from 'pg'

/** Runs one statement and gives its rows. Big numbers may come as text or bigint: see `Number`. */
export type Query = (text: string, values?: readonly unknown[]) => Promise<any[]>

/** Whom to ask, and where the tables are: every name is qualified, so any search path will do. */
export type Database = {
  query: Query
  /** Quoted, as it stands before the dot of a table's name. */
  schema: string
}

/** What inturn uses of a Prisma transaction client, of any version's generated type. */
export type PrismaTransaction = {
  $queryRawUnsafe<Rows>(text: string, ...values: any[]): PromiseLike<Rows>
}

/** An open transaction of somebody else's. */
export type CallerTransaction = pg.ClientBase | PrismaTransaction

export function queryOn(queryable: pg.Pool | CallerTransaction): Query {
  if ('$queryRawUnsafe' in queryable) {
    return async (text, values = []) => queryable.$queryRawUnsafe(text, ...values)
  }
  return async (text, values = []) => (await queryable.query(text, [...values])).rows
}

/** Words that begin, keep and undo a unit of work: of its own, or within somebody's transaction. */
const scopes = {
  transaction: ['begin', 'commit', 'rollback'],
  savepoint: ['savepoint inturn', 'release savepoint inturn', 'rollback to savepoint inturn'],
} as const

/** Does all of `work` or nothing. `query` must stay on one connection. */
export async function allOrNothing<T>(
  query: Query,
  scope: keyof typeof scopes,
  work: () => Promise<T>,
): Promise<T> {
  const [begin, keep, undo] = scopes[scope]
  await query(begin)
  try {
    const done = await work()
    await query(keep)
    return done
  } catch (error) {
    await query(undo).catch(() => {})
    throw error
  }
}

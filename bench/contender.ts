import type pg from 'pg'

/** An operation as a scenario inserts it: `data` is the plain row's. */
export type Row = { thread: string; data: { message: string } }

export type Started = { thread: string; data: { message: string } }

export type Drain = {
  /** Operations executed at once. */
  concurrency: number
  /** Called at the start of each operation; may return a promise to make the operation last. */
  handle: (operation: Started) => void | Promise<void>
}

/** A queue under measurement; both contenders live in a database of their own on the same server. */
export type Contender = {
  name: string
  /** Inserts one operation: `insert … values ($1, $2)` with thread id and data. */
  insertOne: string
  /** Inserts many in one statement: `$1` thread ids, `$2` data, in order. */
  insertMany: string
  /** Starts draining in this process; resolves to a function that stops it. */
  drain(pool: pg.Pool, url: string, drain: Drain): Promise<() => Promise<void>>
}

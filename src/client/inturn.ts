import type pg from 'pg'
import { createPool } from '../db/pool.ts'
import { queryOn } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import type { OperationKind } from '../model/operation.ts'
import { defaultSchema, schemaNameProblem } from '../model/schema-name.ts'
import {
  type Archive,
  type ArchivedMessage,
  type ArchiveFilter,
  listArchives,
} from '../store/archive-reading.ts'
import { findOperation } from '../store/operations.ts'
import { operationNotFound } from './errors.ts'
import { explaining } from './explain-error.ts'
import { insertOperations } from './insert-operations.ts'
import type { EnqueueOptions, NewOperation } from './new-operation.ts'
import { type HandleContext, OperationHandle } from './operation-handle.ts'
import { itemsOf, requireArchive } from './read-archive.ts'
import { SettleWatch } from './settle-watch.ts'
import { StreamWatch } from './stream-watch.ts'
import { ThreadHandle } from './thread-handle.ts'

export type InturnOptions = (
  | {
      /** `postgres://user:password@host:5432/database`; the client opens connections of its own, at most 11. */
      databaseUrl: string
      pool?: undefined
    }
  | {
      /**
       * A pool of yours, which stays open. While somebody waits for a result, and 5 s longer, one of its
       * connections listens; a pool of one connection only polls.
       */
      pool: pg.Pool
      databaseUrl?: undefined
    }
) & {
  /** Schema that holds the tables. Default `public`. */
  schema?: string
}

/**
 * Puts operations into the lines of threads and waits for what comes of them. It needs a migrated
 * database, and a dispatcher somewhere that serves the lines.
 *
 * Throws `options_invalid` and `schema_invalid`.
 *
 * @example
 * const inturn = new Inturn({ databaseUrl: 'postgres://localhost/app' })
 * const question = await inturn.enqueue({
 *   thread: 'user:42',
 *   operation: 'add_message_and_run',
 *   data: { message: 'Hi', assistant_id: 'asst_1' },
 * })
 * const { text } = await question.result({ timeoutMs: 60_000 })
 * await inturn.close()
 */
export class Inturn implements AsyncDisposable {
  readonly #pool: pg.Pool
  readonly #ownsPool: boolean
  readonly #context: HandleContext
  #closing: Promise<void> | undefined

  constructor(options: InturnOptions) {
    const { databaseUrl, pool, schema = defaultSchema } = options
    if (!databaseUrl === !pool) {
      throw new InturnError(
        'options_invalid',
        `new Inturn() takes either a databaseUrl or a pool, not ${pool ? 'both' : 'neither'}`,
        {
          hint: "Write new Inturn({ databaseUrl: 'postgres://user:password@host:5432/database' }).",
        },
      )
    }
    const problem = schemaNameProblem(schema)
    if (problem) throw new InturnError('schema_invalid', problem)
    this.#ownsPool = !pool
    this.#pool = pool ?? createPool(databaseUrl ?? '')
    const database = { query: explaining(queryOn(this.#pool)), schema: `"${schema}"` }
    const source = databaseUrl ? { databaseUrl } : { pool: this.#pool }
    this.#context = {
      database,
      watch: new SettleWatch(database, source),
      streams: new StreamWatch(database),
    }
  }

  /**
   * Puts one operation into the line of its thread, or many in one statement: in the order given, one
   * handle each, all of them or none. It never waits for whoever is served.
   *
   * Throws RefusedError where the database refuses a row, which like any failed statement leaves your
   * transaction good for a rollback only; IdempotencyConflictError, after which it goes on; and
   * `transaction_invalid`, `not_migrated`.
   *
   * @example
   * await prisma.$transaction(async (transaction) => {
   *   await inturn.enqueue(
   *     { thread: 'user:42', operation: 'add_message', data: { message: 'Hi' } },
   *     { transaction },
   *   )
   * })
   */
  enqueue<Kind extends OperationKind>(
    operation: NewOperation<Kind>,
    options?: EnqueueOptions,
  ): Promise<OperationHandle<Kind>>
  enqueue<const Kinds extends readonly OperationKind[]>(
    operations: readonly [...{ [Index in keyof Kinds]: NewOperation<Kinds[Index]> }],
    options?: EnqueueOptions,
  ): Promise<{ -readonly [Index in keyof Kinds]: OperationHandle<Kinds[Index]> }>
  async enqueue(
    given: NewOperation | readonly NewOperation[],
    { transaction }: EnqueueOptions = {},
  ): Promise<OperationHandle | OperationHandle[]> {
    const operations = [given].flat() as NewOperation[]
    const target = { pool: this.#pool, ...this.#context.database }
    const ids = await insertOperations(target, operations, transaction)
    const handles = ids.map((id, index) => {
      const { thread, operation } = operations[index] as NewOperation
      return new OperationHandle(this.#context, id, thread, operation)
    })
    return Array.isArray(given) ? handles : (handles[0] as OperationHandle)
  }

  /** A handle on an operation whose id was kept, say by another process. Throws `operation_not_found`. */
  async operation(id: number): Promise<OperationHandle> {
    const found = await findOperation(this.#context.database, id)
    if (!found) throw operationNotFound(id)
    return new OperationHandle(this.#context, id, found.threadId, found.operation)
  }

  /** A thread by its id, whether or not anything has happened on it. */
  thread(id: string): ThreadHandle {
    return new ThreadHandle(this, this.#context, id)
  }

  /** Archives of conversations, the newest first: of one thread or of one user, or all. */
  archives(filter: ArchiveFilter = {}): Promise<Archive[]> {
    return listArchives(this.#context.database, filter)
  }

  /**
   * All that an archive holds, in the order in which it was said; a hundred items are in memory at once.
   * Throws `archive_not_found`, also where it is deleted meanwhile.
   *
   * @example
   * for await (const { role, text } of inturn.readArchive(7)) console.log(`${role}: ${text}`)
   */
  async *readArchive(id: number): AsyncGenerator<ArchivedMessage, void, undefined> {
    const { database } = this.#context
    yield* itemsOf(database, await requireArchive(database, id))
  }

  /** Ends the connections that the client has opened; who waits for a result or reads a stream is told `client_closed`. */
  close(): Promise<void> {
    const { watch, streams } = this.#context
    this.#closing ??= Promise.all([watch.close(), streams.close()]).then(() =>
      this.#ownsPool ? this.#pool.end() : undefined,
    )
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

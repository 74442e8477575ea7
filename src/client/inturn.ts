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
import { requestErasure } from '../store/erasures.ts'
import { findOperation } from '../store/operations.ts'
import { getThread, type ThreadKeys } from '../store/thread-keys.ts'
import { listThreadStats, type ThreadFilter, type ThreadStats } from '../store/thread-stats.ts'
import { type AdoptOptions, adopt } from './adopt.ts'
import { ErasureHandle } from './erasure-handle.ts'
import { operationNotFound } from './errors.ts'
import { explaining } from './explain-error.ts'
import { databaseIn, insertOperations } from './insert-operations.ts'
import type { EnqueueOptions, NewOperation } from './new-operation.ts'
import { type HandleContext, OperationHandle } from './operation-handle.ts'
import { itemsOf, requireArchive } from './read-archive.ts'
import { SettleWatch } from './settle-watch.ts'
import { StreamWatch } from './stream-watch.ts'
import { ThreadHandle } from './thread-handle.ts'
import { checkKeys } from './thread-keys.ts'

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
  thread(id: string): ThreadHandle
  /**
   * The thread with these keys; whoever asks first creates its row, and everybody gets the same, from
   * SQL too (get_thread). Labels are for a new one: `configure` changes those of one that is there. Throws
   * `thread_keys_invalid`, RefusedError (`thread_has_a_key`, `thread_keys_have_1_to_255_characters`) and
   * `row_locked` where somebody's open transaction is writing the same row.
   *
   * @example
   * const thread = await inturn.thread({ user: '42', topic: 'billing', labels: { team: 'red' } })
   */
  thread(keys: ThreadKeys, options?: EnqueueOptions): Promise<ThreadHandle>
  thread(
    given: string | ThreadKeys,
    options: EnqueueOptions = {},
  ): ThreadHandle | Promise<ThreadHandle> {
    if (typeof given !== 'object' || given === null)
      return new ThreadHandle(this, this.#context, given)
    return this.#threadOf(given, options)
  }

  async #threadOf(keys: ThreadKeys, { transaction }: EnqueueOptions): Promise<ThreadHandle> {
    checkKeys(keys)
    const id = await getThread(databaseIn(this.#context.database, transaction), keys)
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

  /**
   * Threads that have a row, with their statistics, a page of them by their ids: by key, by label
   * (those that have all of these), by state. Throws `thread_keys_invalid`.
   *
   * @example
   * let page = await inturn.threads({ user: '42' })
   * page = await inturn.threads({ user: '42', after: page.at(-1)?.thread_id })
   */
  async threads({ state, limit, after, ...keys }: ThreadFilter = {}): Promise<ThreadStats[]> {
    checkKeys(keys)
    return listThreadStats(this.#context.database, { ...keys, state, limit, after })
  }

  /**
   * Makes provider threads that are there already threads of ours, each under its own id: by a
   * create_thread that looks at it and fails where it is not there (`provider_thread_not_found`) or another
   * thread has it (`provider_thread_in_use`). Gives the operations of those that were not asked for
   * before. `provider` is needed where the ids do not look like the provider's. Throws RefusedError
   * (`provider_thread_id_is_one`) and what `thread` throws.
   *
   * @example
   * await inturn.adopt(['thread_abc…', 'conv_123…'], { user: '42' })
   */
  adopt(
    providerThreadIds: readonly string[],
    options: AdoptOptions & EnqueueOptions = {},
  ): Promise<OperationHandle<'create_thread'>[]> {
    return adopt(this.#context, providerThreadIds, options)
  }

  /**
   * Has a person forgotten: all conversations of their threads (`threads.user_id`) are deleted at the
   * provider, with archives and all that operations hold, and what was done on their behalf
   * (`thread_operations.user_id`) on threads of others is emptied. Dispatchers do it; the handle's `report`
   * tells what was proved. Asked again while it is under way, it gives the same. Throws RefusedError
   * (`user_id_has_1_to_255_characters`) and `row_locked`.
   *
   * @example
   * const { not_proved } = await (await inturn.eraseUser('42')).report()
   */
  async eraseUser(userId: string): Promise<ErasureHandle> {
    const { database } = this.#context
    return new ErasureHandle(database, await requestErasure(database, userId))
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

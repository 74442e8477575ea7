import type { OperationKind } from '../model/operation.ts'
import type { OperationData } from '../operations/data/index.ts'
import type { EnqueueOptions, JoinOptions } from './new-operation.ts'
import type { OperationHandle } from './operation-handle.ts'

export type ArchiveOptions = {
  /** In your own words. */
  reason?: string
} & JoinOptions

export type RotateOptions = {
  /** With how many of the last messages the new conversation begins, 0 to 100. */
  carryOver?: number
  /** Delete the old one at the provider. */
  deleteOld?: boolean
} & JoinOptions

export type ForkOptions = {
  /** Only so many of the last messages. Default: all of them. */
  last?: number
} & JoinOptions

/** When it is to be deleted, and under which key. */
export type DeleteOptions = Pick<JoinOptions, 'idempotencyKey' | 'scheduledAt'>

/** What becomes of a thread's conversation as a whole. */
export abstract class ThreadLife {
  abstract enqueue<Kind extends OperationKind>(
    operation: Kind,
    data: OperationData<Kind>,
    options?: JoinOptions & EnqueueOptions,
  ): Promise<OperationHandle<Kind>>

  /**
   * Copies all that stands in the provider thread at its turn into an archive, which the result names
   * (`archive_id`, `items`). Where there is no provider thread, there is no archive either.
   */
  archive({
    reason,
    ...options
  }: ArchiveOptions & EnqueueOptions = {}): Promise<OperationHandle<'archive_thread'>> {
    return this.enqueue('archive_thread', { reason }, options)
  }

  /**
   * Archives the conversation and goes on in a new one, under the same id, that begins with its last
   * `carryOver` messages; `deleteOld` deletes the old one at the provider. What is left out is as the
   * thread's policy says.
   */
  rotate({
    carryOver: carry_over,
    deleteOld: delete_old,
    ...options
  }: RotateOptions & EnqueueOptions = {}): Promise<OperationHandle<'rotate_thread'>> {
    return this.enqueue('rotate_thread', { carry_over, delete_old }, options)
  }

  /**
   * Copies the conversation, as it stands at its turn, into a new one for the thread `to`, on which nothing
   * was ever started: use it once the handle has a result. `last`: only so many of the last messages.
   *
   * @example
   * await (await inturn.thread('user:42').fork('user:42:draft')).result()
   */
  fork(
    to: string,
    { last, ...options }: ForkOptions & EnqueueOptions = {},
  ): Promise<OperationHandle<'fork_thread'>> {
    return this.enqueue('fork_thread', { to, last }, options)
  }

  /** Goes on in a new conversation that holds what an archive holds, of this thread or of another one. */
  restore(
    archiveId: number,
    options?: JoinOptions & EnqueueOptions,
  ): Promise<OperationHandle<'restore_thread'>> {
    return this.enqueue('restore_thread', { archive_id: archiveId }, options)
  }

  /**
   * Deletes the conversation for good, before all who wait: what is active is cancelled, and what waits ends
   * as cancelled (`thread_deleted`). The handle's `result` tells what was seen to be gone. Later operations
   * are refused, unless `reopen` or the thread's policy says otherwise. Harmless to repeat.
   *
   * @example
   * const { deleted } = await (await thread.delete({ archive: true })).result()
   */
  delete(
    options: OperationData<'delete_thread'> & EnqueueOptions & DeleteOptions = {},
  ): Promise<OperationHandle<'delete_thread'>> {
    const { transaction, idempotencyKey, scheduledAt, ...data } = options
    return this.enqueue('delete_thread', data, { transaction, idempotencyKey, scheduledAt })
  }
}

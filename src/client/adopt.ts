import type { ProviderName } from '../model/thread.ts'
import { adoptThreads } from '../store/adoption.ts'
import type { ThreadKeys } from '../store/thread-keys.ts'
import { databaseIn } from './insert-operations.ts'
import type { EnqueueOptions } from './new-operation.ts'
import { type HandleContext, OperationHandle } from './operation-handle.ts'
import { checkKeys } from './thread-keys.ts'

/** Keys and labels that all of them get. */
export type AdoptOptions = ThreadKeys & {
  /** Who holds them. Default: what the shape of each id tells. */
  provider?: ProviderName
}

/** Asks for provider threads to be adopted; gives the operations of those that were not asked for before. */
export async function adopt(
  context: HandleContext,
  providerThreadIds: readonly string[],
  { provider, transaction, ...keys }: AdoptOptions & EnqueueOptions,
): Promise<OperationHandle<'create_thread'>[]> {
  checkKeys(keys)
  const database = databaseIn(context.database, transaction)
  const adoptions = await adoptThreads(database, provider, providerThreadIds, keys)
  return adoptions.map(
    ({ operationId, threadId }) =>
      new OperationHandle(context, operationId, threadId, 'create_thread'),
  )
}

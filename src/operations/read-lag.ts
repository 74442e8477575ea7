import { ProviderError } from '../provider/provider-error.ts'
import type { OperationContext } from './context.ts'
import { isoTime } from './journal.ts'
import { NotYet, pauseAfter } from './waiting.ts'

/** Does `work`, for as long as what exists may only not be readable yet. */
export async function despiteReadLag<T>(
  context: OperationContext,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (isNotFound(error) && isKnownToExist(context, error)) await confirmAbsence(context, error)
    throw error
  }
}

export const isNotFound = (error: unknown): error is ProviderError =>
  error instanceof ProviderError &&
  /^(provider_thread_not_found|run_not_found|item_not_found)$/.test(error.code) &&
  error.failure.status === 404

/** Throws `NotYet` until the provider has said for its settle time that it knows of no such thing. */
export async function confirmAbsence(
  { provider, journal }: OperationContext,
  { code, message, failure }: ProviderError,
): Promise<void> {
  let { missing } = journal.progress
  const now = journal.now()
  if (missing?.code !== code || Date.parse(missing.since) > now) {
    missing = { code, since: isoTime(now) }
    if (provider.profile.settleMs > 0) await journal.noteBeside({ missing })
  }
  const waitedMs = now - Date.parse(missing.since)
  const restMs = provider.profile.settleMs - waitedMs
  if (restMs <= 0) return
  throw new NotYet(
    { code, message, provider_status: failure.status, request_id: failure.requestId },
    Math.min(restMs, pauseAfter(waitedMs)),
  )
}

/** Runs and messages have their ids from the provider; a thread may be called by any name. */
function isKnownToExist({ operation, journal }: OperationContext, { code }: ProviderError) {
  if (code !== 'provider_thread_not_found') return true
  const { thread_id, provider_thread_id, last_item_id } = operation
  const isNamedAfterIt = provider_thread_id === thread_id
  return (
    journal.progress.provider_thread_id !== undefined ||
    (journal.progress.copying ?? null) !== null ||
    last_item_id !== null ||
    (provider_thread_id !== null && !isNamedAfterIt)
  )
}

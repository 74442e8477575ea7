import type { Outcome } from '../model/outcome.ts'
import type { ProviderName } from '../model/thread.ts'
import { ProviderError } from '../provider/provider-error.ts'
import type { Handler, OperationContext } from './context.ts'
import type { CreateThread } from './data/create-thread.ts'
import { replaceMetadataOnce } from './metadata-once.ts'
import { adoptProviderThread, ensureProviderThread } from './provider-thread.ts'
import { confirmAbsence, isNotFound } from './read-lag.ts'
import { Refusal } from './refusal.ts'

/** Creates the provider thread, or adopts the one that `data` names; harmless to repeat. */
export const createThread: Handler<CreateThread> = async (context) => {
  const { operation, provider, journal, call, data } = context
  if (data.provider !== undefined && data.provider !== operation.provider)
    return moveTo(data.provider, context)

  if (data.provider_thread_id !== undefined) await adopt(data.provider_thread_id, context)
  const known = data.provider_thread_id ?? operation.provider_thread_id
  const id = known ?? (await ensureProviderThread(context, data.metadata))
  if (known !== null) {
    const found = await provider.retrieveThread(id, call)
    if (data.metadata) await replaceMetadataOnce(context, id, data.metadata)
    await journal.noteThread({ metadata: data.metadata ?? found.metadata })
  }
  return { status: 'completed', result: { provider_thread_id: id } }
}

/**
 * Records the id before anybody has looked whether the provider knows it: were it wrong, the later
 * operations of the thread must fail as well, and not land in a conversation of their own.
 */
async function adopt(id: string, context: OperationContext<CreateThread>): Promise<void> {
  const present = context.operation.provider_thread_id
  if (present !== id && present !== null && (await isKnown(present, context)))
    throw alreadyHas(context)
  await adoptProviderThread(context, id)
}

/** A thread that is nobody's yet goes to the provider that is named, and is served there next. */
async function moveTo(
  provider: ProviderName,
  context: OperationContext<CreateThread>,
): Promise<Outcome> {
  const present = context.operation.provider_thread_id
  if (present !== null && (await isKnown(present, context))) throw alreadyHas(context)
  await context.journal.noteThread({ provider, provider_thread_id: null, last_item_id: null })
  const message = `The thread goes to the provider "${provider}".`
  const error = { code: 'provider_changed', message }
  return { status: 'retry', error, delayMs: 0, burnsAttempt: false }
}

/** Throws `NotYet` where the provider thread may only not be readable yet. */
async function isKnown(id: string, context: OperationContext<CreateThread>): Promise<boolean> {
  const { provider, call } = context
  try {
    await provider.retrieveThread(id, call)
    return true
  } catch (error) {
    if (!(error instanceof ProviderError) || error.code !== 'provider_thread_not_found') throw error
    if (isNotFound(error)) await confirmAbsence(context, error)
    return false
  }
}

function alreadyHas({ operation }: OperationContext<CreateThread>): Refusal {
  const { thread_id, provider, provider_thread_id } = operation
  return new Refusal(
    'thread_has_provider_thread',
    `Thread ${JSON.stringify(thread_id)} has the provider thread ${provider_thread_id} of "${provider}" already: write to another thread_id, or leave "provider_thread_id" and "provider" out.`,
  )
}

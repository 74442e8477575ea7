import type { AnsweredCall } from '../model/run.ts'
import type { OperationContext } from './context.ts'
import { sendWhenFree } from './foreign-run.ts'
import { itemBefore } from './provider-thread.ts'
import { mayResend } from './unknown-outcome.ts'

const callsAtOnce = 20
const output = JSON.stringify({ error: 'Nobody has answered this call.' })

/**
 * Adds the outputs of these calls to the thread (null: an error for every call that is in it), unless they
 * have one: a conversation in which a call stands without refuses every run. Their `call_id` tells which do.
 */
export async function answerCalls(
  context: OperationContext,
  threadId: string,
  calls: readonly AnsweredCall[] | null,
): Promise<void> {
  const { provider, journal, call } = context
  const open = await provider.openCalls(threadId, calls, call)
  const answers =
    calls?.filter(({ call_id }) => open.some((one) => one.call_id === call_id)) ??
    open.map((one) => ({ ...one, output, is_error: true }))
  const lost = journal.unresolved('answer_calls')
  if (lost && answers.length > 0) await mayResend(context, lost)
  if (lost && answers.length === 0) await journal.note({})
  for (let start = 0; start < answers.length; start += callsAtOnce) {
    const some = answers.slice(start, start + callsAtOnce)
    const after = await itemBefore(context, threadId)
    const { id } = await sendWhenFree(context, 'answer_calls', after, () =>
      provider.answerCalls(threadId, some, call),
    )
    await journal.note({ last_item_id: id })
  }
}

import type { MessageInput } from '../model/message.ts'
import type { Outcome } from '../model/outcome.ts'
import type { AnsweredCall, NamelessRun, Run } from '../model/run.ts'
import type { RunParameters } from '../provider/provider.ts'
import type { Progress } from '../store/progress.ts'
import { answerOpenCalls, type RoundCall, readRound } from '../store/tool-calls.ts'
import { whileLocked } from '../store/while-locked.ts'
import { abandonTurn } from './abandon-turn.ts'
import { askForOutputs, deadlinePassed, waitForOutputs } from './ask-for-outputs.ts'
import { resolveAssistant } from './assistant.ts'
import { cancelledBy } from './cancelling.ts'
import type { OperationContext } from './context.ts'
import type { CreateRun } from './data/create-run.ts'
import { keepingMessages } from './interrupted.ts'
import { messagesOf } from './merged-messages.ts'
import { sendMessageOnce } from './message-once.ts'
import { ensureProviderThread } from './provider-thread.ts'
import { runOnce } from './run-once.ts'
import { runOutcome } from './run-outcome.ts'
import { submitOutputs } from './submit-outputs.ts'
import { deadlinePolicy } from './tool-deadline.ts'

type TurnContext = OperationContext<CreateRun>
type Asked = NonNullable<Progress['asked']>

const noOutput = JSON.stringify({ error: 'No output was given in time.' })

/**
 * One turn of the model, over the operation's own messages and those merged into it: a run and, as often
 * as it asks for outputs of tools, another that has them. Between asking and going on the operation
 * waits without a dispatcher.
 */
export async function runTurn(
  context: TurnContext,
  own: readonly MessageInput[],
): Promise<Outcome> {
  const { asked, abandoned } = context.journal.progress
  const parameters = abandoned ? {} : await resolveAssistant(context, context.data)
  const threadId = await ensureProviderThread(context)
  return keepingMessages(context, threadId, own, async () => {
    if (abandoned) return abandonTurn(context, threadId, abandoned)
    if (asked) return goOn(context, threadId, parameters, asked)
    const messages = await messagesOf(context, threadId, own)
    if (!context.provider.profile.runCarriesMessage)
      for (const message of own) await sendMessageOnce(context, threadId, message)
    const run = await runOnce(context, threadId, { messages, parameters })
    return afterRun(context, threadId, run)
  })
}

const afterRun = (context: TurnContext, threadId: string, run: Run | NamelessRun) =>
  run.status === 'requires_action'
    ? askForOutputs(context, threadId, run)
    : runOutcome(context, threadId, run)

/** From the latest round of calls on, wherever an earlier claim has left it. */
async function goOn(
  context: TurnContext,
  threadId: string,
  parameters: RunParameters,
  asked: Asked,
): Promise<Outcome> {
  const { journal, provider, cancelWanted } = context
  if (journal.openRunId !== null)
    return afterRun(context, threadId, await runOnce(context, threadId, { parameters }))
  // While it is not known whether the outputs were sent, there may be a run to be cancelled first.
  if (cancelWanted.aborted && journal.unresolved() === null)
    return abandonTurn(context, threadId, {
      status: 'cancelled',
      error: cancelledBy(cancelWanted.reason),
    })
  const open = (await callsOf(context, asked)).filter(({ output }) => output === null)
  if (open.length > 0) {
    const leftMs = Math.min(...open.map(({ ms_left }) => ms_left))
    if (leftMs > 0) return waitForOutputs(context, threadId, leftMs)
    if (deadlinePolicy(context) === 'cancel') return abandonTurn(context, threadId, deadlinePassed)
    await journal.writeCalls((claim) => answerOpenCalls(context.pool, claim, noOutput))
  }
  const calls = (await callsOf(context, asked)).map(({ ms_left, ...call }) => call as AnsweredCall)
  const { run_id } = asked
  const run =
    provider.profile.callsStayOpen || run_id === null
      ? await runOnce(context, threadId, { outputs: calls, parameters })
      : await submitOutputs(context, threadId, { asked: { ...asked, run_id }, calls, parameters })
  return afterRun(context, threadId, run)
}

const callsOf = ({ operation, pool, call }: TurnContext, { round }: Asked): Promise<RoundCall[]> =>
  whileLocked(call.signal, () => readRound(pool, operation.id, round))

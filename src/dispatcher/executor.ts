import type pg from 'pg'
import type { Logger } from 'pino'
import { z } from 'zod'
import type { OperationKind } from '../model/operation.ts'
import type { Outcome } from '../model/outcome.ts'
import type { OnPoint } from '../model/point.ts'
import type { RetryPolicy } from '../model/retry.ts'
import type { ProviderName } from '../model/thread.ts'
import type { DeadlinePolicy } from '../model/tool-deadline.ts'
import { leaveNothingOpen } from '../operations/abandon-turn.ts'
import {
  CancelWanted,
  cancellationOf,
  cancelled,
  isBegun,
  owesMessages,
  underCancellation,
} from '../operations/cancelling.ts'
import type { OperationContext } from '../operations/context.ts'
import { leaveNoCopy } from '../operations/discard-copy.ts'
import { ClaimLost, Journal } from '../operations/journal.ts'
import { noSink, OperationStream } from '../operations/operation-stream.ts'
import { Refusal } from '../operations/refusal.ts'
import { operationOf } from '../operations/registry.ts'
import { RunFailed } from '../operations/run-outcome.ts'
import { Held, NotYet } from '../operations/waiting.ts'
import type { ProviderFailure } from '../provider/classify-error.ts'
import type { Provider } from '../provider/provider.ts'
import { ProviderError } from '../provider/provider-error.ts'
import type { Claim } from './dispatcher.ts'
import { LaneVisit } from './lane-visit.ts'
import type { Lanes } from './lanes.ts'
import { operationLog } from './operation-log.ts'
import {
  afterFailure,
  describe,
  resendAttempts,
  retryClassOf,
  retryLimits,
} from './retry-policy.ts'
import type { StreamWriter } from './stream-writer.ts'
import { requireUserRoom } from './user-limit.ts'

/** Executes a claimed operation. Null: no outcome may be recorded, the claim is left as it is. Never rejects. */
export type Execute = (claim: Claim) => Promise<Outcome | null>

export type ExecutorOptions = {
  pool: pg.Pool
  /** Those for which there are settings. */
  providers: Partial<Record<ProviderName, Provider>>
  /** Deadline of one provider request, in milliseconds. */
  callTimeoutMs: number
  /** Longest wait for a run of somebody else, in milliseconds. */
  foreignRunMs: number
  /** Longest time that a run may take, in milliseconds. */
  runTimeoutMs: number
  /** Time that tool calls have, in milliseconds, and what then becomes of them; what an operation says itself wins over it. */
  toolDeadlineMs: number
  onToolDeadline: DeadlinePolicy
  /** Kinds whose operations wait for an operator where a call's outcome stays unknown. */
  holdUnknown: readonly OperationKind[]
  /** As configured; what an operation says itself wins over it. */
  retry: RetryPolicy
  lanes: Lanes
  /** Most runs at once on behalf of one user, in the whole fleet. Default: any number. */
  maxRunsPerUser?: number
  /** Default: nobody can read what runs say. */
  streams?: StreamWriter
  log: Logger
  onPoint?: OnPoint
  /** Messages and answers may appear in the log. Default false. */
  logContent?: boolean
}

/** How long an operation waits for a dispatcher that has settings for its provider, in milliseconds. */
const otherDispatcherMs = 1_000

/** The pipeline of one operation: check its data, hand it to its handler, judge what came of it. */
export function createExecutor(options: ExecutorOptions): Execute {
  return async (claim) => {
    const log = operationLog(options.log, claim.operation, options.logContent ?? false)
    log.started()
    options.onPoint?.('claimed', claim.operation)
    const journal = journalOf(claim, options)
    const visit = new LaneVisit(options.lanes, claim, options.pool)
    const written = await options.streams?.open(claim)
    const stream = new OperationStream(written ?? noSink, (id) => journal.isReplaced(id))
    const judge = (error: unknown) => {
      if (error instanceof ClaimLost || claim.signal.aborted) return null
      if (!isExpected(error)) log.unexpected(error)
      return outcomeOf(error, claim, journal, visit, options.retry)
    }
    const reached = await perform(claim, journal, visit, stream, options, judge).catch(judge)
    const outcome = reached && underCancellation(reached, claim, journal)
    if (outcome?.status === 'completed') await visit.succeeded()
    // Who sees the end must find all that was said before it.
    await written?.close()
    log.ended(outcome)
    options.onPoint?.('before_settle', claim.operation)
    return outcome
  }
}

async function perform(
  claim: Claim,
  journal: Journal,
  visit: LaneVisit,
  stream: OperationStream,
  options: ExecutorOptions,
  judge: (error: unknown) => Promise<Outcome> | null,
): Promise<Outcome | null> {
  const { operation, signal } = claim
  const { pool, callTimeoutMs, foreignRunMs, runTimeoutMs, holdUnknown, retry, maxRunsPerUser } =
    options
  const { toolDeadlineMs, onToolDeadline } = options
  const isOver = !isBegun(operation, journal) && !owesMessages(claim, journal)
  if (claim.cancelWanted.aborted && isOver) throw new CancelWanted()
  if (operation.is_ended) return endedWithThread
  const provider = options.providers[operation.provider]
  if (provider === undefined) return notServedHere(operation.provider)
  const { schema, handle } = operationOf(operation.operation)
  // A row may be older than the schema that it is checked by now.
  const data = schema.safeParse(operation.data)
  if (!data.success) throw new Refusal('data_invalid', z.prettifyError(data.error))
  visit.begin()
  const context: OperationContext = {
    operation,
    data: data.data,
    provider,
    providers: options.providers,
    call: { signal, timeoutMs: callTimeoutMs, onEvent: (event) => stream.said(event) },
    journal,
    stream,
    cancelWanted: claim.cancelWanted,
    enterLane: async (model) => {
      await requireUserRoom(claim, pool, maxRunsPerUser)
      await visit.enter(model)
    },
    pool,
    foreignRunMs,
    runTimeoutMs,
    tools: { deadlineMs: toolDeadlineMs, onDeadline: onToolDeadline },
    holdsUnknown: holdUnknown.includes(operation.operation),
    hasAttemptsLeft: operation.failures < resendAttempts(operation.retry, retry),
  }
  const outcome = await leaveNoCopy(context, await handle(context).catch(judge))
  return leaveNothingOpen(context, outcome)
}

function journalOf(claim: Claim, { pool, callTimeoutMs, onPoint }: ExecutorOptions): Journal {
  const { operation, dispatcherId, signal, cancelWanted } = claim
  // An earlier attempt has sent something already.
  claim.sent = operation.intent !== null || operation.progress !== null
  const onSend = () => {
    claim.sent = true
  }
  const timeoutMs = callTimeoutMs
  const options = { pool, dispatcherId, signal, cancelWanted, timeoutMs, onPoint, onSend }
  return new Journal(operation, options)
}

const isExpected = (error: unknown) =>
  error instanceof Refusal ||
  error instanceof NotYet ||
  error instanceof Held ||
  error instanceof CancelWanted ||
  error instanceof ProviderError

async function outcomeOf(
  error: unknown,
  claim: Claim,
  journal: Journal,
  visit: LaneVisit,
  retry: RetryPolicy,
): Promise<Outcome> {
  const { operation } = claim
  const cancellation = cancellationOf(claim, journal)
  if (cancellation && error instanceof CancelWanted)
    return cancelled({ operation, journal }, cancellation)
  if (cancellation && error instanceof RunFailed)
    return cancelled({ operation, journal }, cancellation, error.result)
  const { failures, attempts } = operation
  const tries = { failures, waits: attempts - 1 - failures }
  if (error instanceof Refusal) return { status: 'failed', error: error.failure }
  if (error instanceof Held) return { status: 'held', error: error.failure }
  if (error instanceof NotYet) {
    const { failure, delayMs } = error
    return { status: 'retry', error: failure, delayMs, burnsAttempt: false }
  }
  const failure = failureOf(error)
  // Behind the start of a run, calls name no model.
  const refused = await visit.refused(failure, journal.openRunId !== null)
  if (refused !== null) {
    const { lane, delayMs } = refused
    return {
      status: 'retry',
      error: { ...describe(failure), lane },
      delayMs,
      burnsAttempt: false,
    }
  }
  // What was sent may have taken effect: it is looked for before the operation is given up.
  const isLookedFor = error instanceof ProviderError && journal.isUnderWay
  const patience = isLookedFor ? { max_attempts: Infinity } : {}
  const limits = retryLimits(retryClassOf(error), operation.retry, retry)
  const outcome = afterFailure(failure, tries, { ...limits, ...patience })
  const isLastRun = error instanceof RunFailed && outcome.status === 'failed'
  return isLastRun ? { ...outcome, result: error.result } : outcome
}

function failureOf(error: unknown): ProviderFailure {
  if (error instanceof ProviderError) return error.failure
  // Ours, or the database's: its words may quote content, so they go to the log alone.
  const name = error instanceof Error ? error.name : typeof error
  const message = `inturn could not go on (${name}): its log says more.`
  return { code: 'internal_error', message, decision: 'reconcile', sent: true }
}

/** `thread_deleted` of the database says the same. */
const endedWithThread: Outcome = {
  status: 'cancelled',
  error: { code: 'thread_deleted', message: 'The conversation was deleted before its turn.' },
}

/** The thread has moved to another provider since this was queued; its dispatchers are served it next. */
function notServedHere(provider: ProviderName): Outcome {
  const message = `This dispatcher has no settings for the provider "${provider}".`
  return {
    status: 'retry',
    error: { code: 'provider_not_configured', message },
    delayMs: otherDispatcherMs,
    burnsAttempt: false,
  }
}

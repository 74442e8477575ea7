import type { Logger } from 'pino'
import type { Outcome } from '../model/outcome.ts'
import type { ClaimedOperation } from '../store/claim.ts'

export type OperationLog = {
  started(): void
  /** An error that no provider and no caller is to blame for. */
  unexpected(error: unknown): void
  ended(outcome: Outcome | null): void
}

/** One line per event of one operation; what was said appears only with `content`. */
export function operationLog(
  logger: Logger,
  operation: ClaimedOperation,
  content: boolean,
): OperationLog {
  const startedAt = performance.now()
  const about = {
    operation_id: operation.id,
    thread_id: operation.thread_id,
    operation: operation.operation,
    turn: operation.turn,
    attempt: operation.attempts,
  }
  return {
    started() {
      logger.info({ ...about, ...(content && { data: operation.data }) }, 'operation started')
    },
    unexpected(error) {
      logger.error({ ...about, err: error }, 'operation ran into an unexpected error')
    },
    ended(outcome) {
      const ms = Math.round(performance.now() - startedAt)
      const line = { ...about, ms }
      if (outcome === null) {
        logger.warn(line, 'operation left to the next dispatcher')
      } else if (outcome.status === 'completed') {
        const { run, text } = outcome.result
        const ended = { ...line, ...(run && { run_id: run.id }), ...(content && { text }) }
        logger.info(ended, 'operation completed')
      } else if (outcome.status === 'requires_action') {
        const { run } = outcome.result
        logger.info({ ...line, ...(run && { run_id: run.id }) }, 'operation waits for tool outputs')
      } else if (outcome.status === 'holding') {
        logger.info({ ...line, lease_ms: outcome.leaseMs }, 'thread is held for its caller')
      } else if (outcome.status === 'retry') {
        const { error, delayMs } = outcome
        const again = { ...line, code: error.code, reason: error.message, delay_ms: delayMs }
        logger.warn(again, 'operation will be tried again')
      } else {
        const { code, message } = outcome.error
        logger.warn({ ...line, code, reason: message }, `operation ${outcome.status}`)
      }
    },
  }
}

import { isatty } from 'node:tty'
import { destination, type Logger, pino } from 'pino'
import { build } from 'pino-pretty'
import type { LogLevel } from './config.ts'

export type { Logger }

export type LogOptions = {
  /** Least important level that is written. Default `info`. */
  level?: LogLevel
  /** File descriptor: 1 is standard output, 2 standard error. Default 1. */
  fd?: number
  /** For people or for programs. Default: pretty on a terminal, JSON otherwise. */
  format?: 'pretty' | 'json'
}

/**
 * One line per event, written at once, so that nothing is lost at exit. Errors are logged by name,
 * code, message and stack alone: PostgreSQL's `detail` quotes rows and a provider's reply quotes
 * messages, and content stays out of the log.
 */
export function createLogger(options: LogOptions = {}): Logger {
  const fd = options.fd ?? 1
  const format = options.format ?? (isatty(fd) ? 'pretty' : 'json')
  const stream =
    format === 'pretty'
      ? build({
          destination: fd,
          sync: true,
          ignore: 'pid,hostname',
          translateTime: 'HH:MM:ss.l',
          singleLine: true,
        })
      : destination({ dest: fd, sync: true })
  return pino({ level: options.level ?? 'info', serializers: { err: describeError } }, stream)
}

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { name, message, stack } = error
  return { type: name, code: (error as Error & { code?: unknown }).code, message, stack }
}

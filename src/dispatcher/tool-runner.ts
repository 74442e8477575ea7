import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Logger } from 'pino'
import type { OnPoint, Point } from '../model/point.ts'
import type { Tool, Tools } from '../model/tool.ts'
import {
  answerToolCall,
  type ClaimedCall,
  claimToolCalls,
  giveBackToolCalls,
  stillOpen,
} from '../store/tool-claims.ts'
import { whileLocked } from '../store/while-locked.ts'
import { runTool, type ToolAnswer } from './run-tool.ts'

type ToolRunnerOptions = {
  pool: pg.Pool
  tools: Tools
  /** Calls run at once. */
  toolConcurrency: number
  onPoint?: OnPoint
  log: Logger
  /** What a tool has thrown may appear in the log. */
  logContent?: boolean
}

/** How long tools that were told to stop are waited for, in milliseconds. */
const stopMs = 1_000

/** Answers open tool calls by the tools of this dispatcher, beside its slots. */
export class ToolRunner {
  readonly #options: ToolRunnerOptions
  readonly #dispatcherId: () => string
  readonly #running = new Map<ClaimedCall, { stop: AbortController; done: Promise<void> }>()

  constructor(options: ToolRunnerOptions, dispatcherId: () => string) {
    this.#options = options
    this.#dispatcherId = dispatcherId
  }

  /** One round, as a chore: lets go of calls that others have answered, and begins others. */
  async run(): Promise<boolean> {
    const { pool, tools, toolConcurrency } = this.#options
    await this.#stopAnswered()
    const free = toolConcurrency - this.#running.size
    if (free <= 0) return false
    const dispatcherId = this.#dispatcherId()
    const held = [...this.#running.keys()]
    const names = Object.keys(tools)
    const calls = await claimToolCalls(pool, dispatcherId, names, { held, limit: free })
    for (const call of calls) {
      const stop = new AbortController()
      this.#running.set(call, { stop, done: this.#answer(call, dispatcherId, stop.signal) })
    }
    return false
  }

  /** Everything is called off: others take the calls over. */
  callOff(): void {
    for (const { stop } of this.#running.values()) stop.abort()
  }

  /** Begins nothing more, and gives back what is not answered by then. */
  async stop(): Promise<void> {
    const { pool, log } = this.#options
    const all = Promise.allSettled([...this.#running.values()].map(({ done }) => done))
    this.callOff()
    await Promise.race([all, sleep(stopMs, undefined, { ref: false })])
    await giveBackToolCalls(pool, this.#dispatcherId()).catch((error) =>
      log.warn({ err: error }, 'could not give tool calls back'),
    )
  }

  /** The deadline has passed, the operation was cancelled, or somebody was quicker. */
  async #stopAnswered(): Promise<void> {
    if (this.#running.size === 0) return
    const open = await stillOpen(this.#options.pool, [...this.#running.keys()])
    const keys = new Set(open.map(keyOf))
    for (const [call, { stop }] of this.#running) if (!keys.has(keyOf(call))) stop.abort()
  }

  async #answer(call: ClaimedCall, dispatcherId: string, signal: AbortSignal): Promise<void> {
    const { pool, tools } = this.#options
    const tool = tools[call.name] as Tool
    const startedAt = performance.now()
    this.#reach('tool_claimed', call)
    try {
      const answer = await runTool(tool, call, signal)
      this.#reach('tool_returned', call)
      if (answer === null) return
      const stored = await whileLocked(signal, () =>
        answerToolCall(pool, dispatcherId, call, answer),
      )
      this.#reach('tool_answered', call)
      this.#tell(call, answer, stored === 'stored', performance.now() - startedAt)
    } catch (error) {
      // What is not stored is begun anew by whoever takes it over.
      if (!signal.aborted) this.#options.log.warn({ err: error }, 'a tool call is left unanswered')
    } finally {
      this.#running.delete(call)
    }
  }

  #tell(call: ClaimedCall, answer: ToolAnswer, isStored: boolean, ms: number): void {
    const { log, logContent } = this.#options
    const { operation_id, thread_id, call_id, name, attempts } = call
    const about = {
      operation_id,
      thread_id,
      call_id,
      tool: name,
      attempt: attempts,
      ms: Math.round(ms),
    }
    if (!isStored) log.warn(about, 'a tool was too late: its call was answered by others')
    else if (!answer.isError) log.info(about, 'tool call answered')
    else {
      const { cause } = answer
      const thrown = cause instanceof Error ? cause.name : typeof cause
      const why = cause === undefined ? {} : logContent ? { err: cause } : { thrown }
      log.warn({ ...about, ...why }, 'tool call answered with an error')
    }
  }

  #reach(point: Point, { operation_id: id, operation }: ClaimedCall): void {
    this.#options.onPoint?.(point, { id, operation })
  }
}

const keyOf = ({ operation_id, call_id }: Pick<ClaimedCall, 'operation_id' | 'call_id'>) =>
  `${operation_id} ${call_id}`

import type pg from 'pg'
import pino from 'pino'
import { type Claim, Dispatcher } from '../../src/dispatcher/dispatcher.ts'
import type { DispatcherOptions } from '../../src/dispatcher/options.ts'
import type { Outcome } from '../../src/model/outcome.ts'
import { completed } from './hand-driven.ts'
import { test as base } from './own-database.ts'

/** What a test has the handlers do. */
export type Script = (claim: Claim) => Outcome | null | Promise<Outcome | null>

export const completes: Script = () => completed

/** Sends something and hears nothing until it is called off. */
export const hangs: Script = async (claim) => {
  claim.sent = true
  return untilAborted(claim)
}

/** Is about to send something, and never comes to it. */
export const ponders: Script = (claim) => untilAborted(claim)

const untilAborted = ({ signal }: Claim): Promise<null> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(null)
    signal.addEventListener('abort', () => resolve(null))
  })

/** A real dispatcher whose handlers follow a script. */
export class Scripted {
  readonly dispatcher: Dispatcher
  /** What was handed to a handler, in that order. */
  readonly claims: Claim[] = []
  readonly log: Array<Record<string, unknown>> = []
  #stopped: Promise<void> | undefined

  private constructor(pool: pg.Pool, script: Script, options: Partial<DispatcherOptions>) {
    this.dispatcher = new Dispatcher({
      pool,
      execute: async (claim) => {
        this.claims.push(claim)
        return script(claim)
      },
      concurrency: 10,
      providers: ['responses'],
      defaultProvider: 'responses',
      pollMs: 20,
      heartbeatMs: 1_000,
      graceMs: 5_000,
      leaseMs: 10_000,
      sweepMs: 50,
      shutdownMs: 10_000,
      log: pino({ level: 'debug' }, { write: (line) => void this.log.push(JSON.parse(line)) }),
      ...options,
    })
  }

  static async start(
    pool: pg.Pool,
    script: Script,
    options: Partial<DispatcherOptions> = {},
  ): Promise<Scripted> {
    const scripted = new Scripted(pool, script, options)
    await scripted.dispatcher.start()
    return scripted
  }

  /** The operations that were started, in that order. */
  get started(): number[] {
    return this.claims.map(({ operation }) => operation.id)
  }

  get messages(): string[] {
    return this.log.map(({ msg, err }) => `${msg} ${(err as Error | undefined)?.message ?? ''}`)
  }

  stop(): Promise<void> {
    this.#stopped ??= this.dispatcher.stop()
    return this.#stopped
  }
}

/** `test` with a database of its own and `start`, whose dispatchers are stopped after the test. */
export const test = base.extend('start', async ({ pool }, { onCleanup }) => {
  const started: Scripted[] = []
  onCleanup(async () => {
    await Promise.all(started.map((scripted) => scripted.stop()))
  })
  return async (script: Script, options: Partial<DispatcherOptions> = {}): Promise<Scripted> => {
    const scripted = await Scripted.start(pool, script, options)
    started.push(scripted)
    return scripted
  }
})

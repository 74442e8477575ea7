import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { PgBoss } from 'pg-boss'
import { clockworkSchema, clockworkState } from '../db/clockwork-tables.ts'
import { InturnError } from '../errors.ts'
import type { Logger } from '../log.ts'
import { sweep } from './sweep.ts'

export type ClockworkOptions = {
  /** Two connections of its own are enough; any pooler will do. */
  pool: pg.Pool
  schema: string
  log: Logger
  /** Pause before another try when it could not start, in milliseconds. Default 10,000. */
  retryMs?: number
}

const queue = 'sweeps'
/** How long one sweep goes on while expiries are under way; the next follows at once. */
const sweepForMs = 60_000
/** The same complaint is repeated after this long. */
const complainEveryMs = 60_000

/**
 * Sweeps every minute, once per cluster however many dispatchers take part: pg-boss says whose turn it
 * is, and holds no operation. Whatever goes wrong with it is logged and tried again; the line goes on.
 */
export class Clockwork {
  readonly #options: ClockworkOptions
  readonly #stopping = new AbortController()
  readonly #warned = new Set<string>()
  #boss: PgBoss | undefined
  #started: Promise<void> | undefined
  #complained = { message: '', at: 0 }

  constructor(options: ClockworkOptions) {
    this.#options = options
  }

  start(): void {
    this.#started = this.#startUntilItRuns()
  }

  /** Lets the step of a sweep that goes on now finish. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#started
    await this.#end(this.#boss)
  }

  async #startUntilItRuns(): Promise<void> {
    const { retryMs = 10_000 } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        this.#boss = await this.#begin()
        return
      } catch (error) {
        this.#complain(error)
        await sleep(retryMs, undefined, { signal }).catch(() => {})
      }
    }
  }

  async #begin(): Promise<PgBoss> {
    const { pool, schema } = this.#options
    await this.#requireTables()
    const pgBoss = await import('pg-boss') // large, and nobody but a dispatcher needs it
    const boss = new pgBoss.PgBoss({
      db: { executeSql: (text, values) => pool.query(text, values) },
      schema: `"${clockworkSchema(schema)}"`,
      // Both need more rights than a dispatcher has.
      migrate: false,
      reindex: false,
      monitorVacuum: false,
    })
    boss.on('error', (error) => this.#complain(error))
    try {
      await boss.start()
      // One at a time, and one more behind it; a dispatcher that dies within is noticed by its silence.
      await boss.createQueue(queue, {
        policy: 'stately',
        retryLimit: 0,
        heartbeatSeconds: 30,
        deleteAfterSeconds: 86_400,
      })
      await boss.schedule(queue, '* * * * *')
      await boss.send(queue)
      await boss.work(queue, { pollingIntervalSeconds: 2 }, () => this.#sweep())
      return boss
    } catch (error) {
      await this.#end(boss)
      throw error
    }
  }

  async #requireTables(): Promise<void> {
    const { pool, schema } = this.#options
    const state = await clockworkState(pool, schema)
    if (state === 'current') return
    const name = clockworkSchema(schema)
    throw new InturnError(
      'clockwork_not_migrated',
      state === 'newer'
        ? `The tables of pg-boss (schema ${name}) are of a later version of inturn.`
        : `The tables of pg-boss (schema ${name}) are ${state}.`,
      { hint: 'Run "inturn migrate" of the latest version once; or switch the sweeps off here.' },
    )
  }

  /** What it returns is kept with the job, for a day. */
  async #sweep(): Promise<object> {
    const { pool, log } = this.#options
    const { signal } = this.#stopping
    const swept = await sweep({ pool, forMs: sweepForMs, signal })
    for (const { thread_id, messages, warning } of swept.near_limit) {
      if (this.#warned.has(thread_id)) continue
      this.#warned.add(thread_id)
      log.warn({ thread: thread_id, messages }, `a thread holds ${warning}`)
    }
    const figures = { ...swept, near_limit: swept.near_limit.length }
    log.debug(figures, 'swept')
    return figures
  }

  async #end(boss: PgBoss | undefined): Promise<void> {
    if (!boss) return
    await boss.offWork(queue).catch(() => {})
    await boss.stop({ close: false }).catch(() => {})
  }

  #complain(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error)
    const now = performance.now()
    const isNew = message !== this.#complained.message
    if (!isNew && now - this.#complained.at < complainEveryMs) return
    this.#complained = { message, at: now }
    this.#options.log.warn(
      { err: error },
      'the clockwork of expiry and retention failed; will try again',
    )
  }
}

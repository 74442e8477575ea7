import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { setImmediate as nextTick } from 'node:timers/promises'
import type pg from 'pg'
import type { Logger } from 'pino'
import type { ProviderName } from '../model/thread.ts'
import { type ClaimedOperation, headPriorities, type RoundResult, type Settlement, settleAndClaim } from '../store/claim.ts'
import { sayAsleep, signOff, signOn } from '../store/dispatchers.ts'
import { giveBackOperations } from '../store/release.ts'
import { EmptiedLines } from './emptied-lines.ts'
import type { Execute } from './executor.ts'
import { Heartbeat } from './heartbeat.ts'
import { Sweeper } from './recovery.ts'
import { WakeUp } from './wake-up.ts'

export type DispatcherOptions = {
  pool: pg.Pool
  execute: Execute
  /** Operations executed at once, each of another thread. */
  concurrency: number
  /** Providers that this dispatcher has settings for; operations of others are left to those who have. */
  providers: readonly ProviderName[]
  /** Provider of threads that name none. */
  defaultProvider: ProviderName
  /** Longest sleep between two looks at the heads, in milliseconds. */
  pollMs: number
  heartbeatMs: number
  /** A dispatcher silent for longer than this has lost what it held, in milliseconds. */
  leaseMs: number
  /** Pause between two sweeps for lines that nobody marked, in milliseconds. */
  sweepMs: number
  /** How long `stop` waits for running operations, in milliseconds. */
  shutdownMs: number
  log: Logger
}

type Running = { claim: Claim; done: Promise<void> }

/** A claim in the hands of its executor. */
export type Claim = {
  readonly operation: ClaimedOperation
  /** Who holds it. */
  readonly dispatcherId: string
  /** Aborted when the claim may no longer be acted on: shutdown is over, or the lease is running out. */
  readonly signal: AbortSignal
  /** Set before the first word goes to the provider; from then on the claim is never given back unseen. */
  sent: boolean
}

/** A pooler in transaction mode gave us another session: `invalid_sql_statement_name`, `duplicate_prepared_statement`. */
const lostPreparedStatement = new Set(['26000', '42P05'])

/** How long every look at the heads may skip what lies below the floor, in milliseconds. */
const floorMs = 1000

/**
 * One loop: settle what finished, claim into the free slots, sleep until woken. Any number of
 * dispatchers run on one database; the loop holds no state that another could miss.
 */
export class Dispatcher {
  readonly id = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`
  readonly #options: DispatcherOptions
  readonly #lookedFor: readonly string[]
  readonly #wakeUp = new WakeUp()
  readonly #emptied = new EmptiedLines()
  readonly #running = new Map<number, Running>()
  readonly #finished: Settlement[] = []
  readonly #abort = new AbortController()
  readonly #heartbeat: Heartbeat
  readonly #sweeper: Sweeper
  #loop: Promise<void> | undefined
  #stopping = false
  #asleep = false
  #busyRounds = 0
  #reserved = 0
  #helping: Promise<void> | undefined
  #floor: string | null = null
  #floorUntil = 0
  #priorities: number[] = [0]
  #prepared = true

  constructor(options: DispatcherOptions) {
    this.#options = options
    // '' stands for threads that name no provider: our default serves them.
    this.#lookedFor = ['', ...options.providers]
    this.#heartbeat = new Heartbeat(options, this.id, () => this.#abort.abort())
    this.#sweeper = new Sweeper(options, this.id, () => this.wake())
  }

  async start(): Promise<void> {
    const { pool, concurrency, providers } = this.#options
    await signOn(pool, { id: this.id, host: hostname(), pid: process.pid, concurrency, providers })
    this.#heartbeat.start()
    this.#sweeper.start()
    this.#loop = this.#serve()
  }

  /** Looks at the heads now; called on NOTIFY. */
  wake(): void {
    this.#wakeUp.wake()
  }

  /**
   * Claims no more, gives back what was not sent yet, and waits up to `shutdownMs` for the rest. What
   * then still runs at the provider keeps its run id, for the next dispatcher to follow.
   */
  async stop(): Promise<void> {
    this.#stopping = true
    const { pool, shutdownMs, log } = this.#options
    await this.#giveBackUnsent()
    this.wake()
    const timer = setTimeout(() => this.#abort.abort(), shutdownMs)
    await this.#loop
    clearTimeout(timer)
    await Promise.all([this.#heartbeat.stop(), this.#sweeper.stop()])
    await signOff(pool, this.id)
    log.info({ dispatcher: this.id, left: this.#running.size }, 'dispatcher stopped')
  }

  get #free(): number {
    return this.#stopping ? 0 : this.#options.concurrency - this.#running.size - this.#reserved
  }

  /** Most operations settled and claimed in one round: half of all, so that two rounds can run side by side. */
  get #batch(): number {
    return Math.max(20, Math.ceil(this.#options.concurrency / 2))
  }

  async #serve(): Promise<void> {
    let client: pg.PoolClient | undefined
    for (let failures = 0; !this.#isOver(); ) {
      try {
        client ??= await this.#options.pool.connect()
        const result = await this.#round(client)
        failures = 0
        await nextTick() // lets handlers that finish at once join the next round
        if (this.#finished.length === 0 && !(result.fullHouse && this.#free > 0)) await this.#rest(client)
      } catch (error) {
        this.#options.log.warn({ err: error }, 'round failed; will try again')
        client?.release(true)
        client = undefined
        await this.#wakeUp.sleep(Math.min(100 * 2 ** failures++, 5000))
      }
    }
    await this.#helping
    client?.release()
  }

  /** A second pair of hands: runs rounds on a connection of its own while more is finished than one round takes. */
  async #help(): Promise<void> {
    const client = await this.#options.pool.connect().catch(() => undefined)
    let broken = client === undefined
    while (client && !broken && this.#finished.length >= this.#batch) {
      await this.#round(client).catch(() => {
        broken = true // the loop settles what is left, and reports what is wrong
      })
      await nextTick()
    }
    client?.release(broken)
    this.#helping = undefined
  }

  #isOver(): boolean {
    return this.#stopping && this.#finished.length === 0 && (this.#running.size === 0 || this.#abort.signal.aborted)
  }

  async #round(client: pg.PoolClient): Promise<RoundResult> {
    const { providers, defaultProvider } = this.#options
    const settlements = this.#finished.splice(0, this.#batch)
    const free = Math.min(this.#free, this.#batch)
    const emptied = this.#emptied.next()
    if (performance.now() > this.#floorUntil) {
      this.#floor = null
      this.#floorUntil = performance.now() + floorMs
      const present = await headPriorities(client, this.#lookedFor)
      this.#priorities = [...new Set([...present, 0])].sort((a, b) => b - a)
    }
    const awake = this.#asleep && this.#busyRounds >= 2
    let result: RoundResult
    this.#reserved += free
    try {
      result = await settleAndClaim(client, this.id, {
        settlements,
        emptied,
        free,
        providers: providers.includes(defaultProvider) ? this.#lookedFor : providers,
        defaultProvider,
        priorities: this.#priorities,
        floor: this.#floor,
        awake,
        prepared: this.#prepared,
      })
    } catch (error) {
      this.#finished.unshift(...settlements)
      if (lostPreparedStatement.has((error as { code?: string }).code ?? '')) this.#prepared = false
      throw error
    } finally {
      this.#reserved -= free
    }
    if (awake) this.#asleep = false
    this.#floor = result.floor
    this.#emptied.after(emptied, settlements.map(({ operation }) => operation.thread_id), result)
    if (result.late > 0) this.#options.log.warn({ late: result.late }, 'outcomes came too late: the claims were lost')
    this.#busyRounds = result.claimed.length > 0 ? this.#busyRounds + 1 : 0
    for (const operation of result.claimed) this.#begin(operation)
    return result
  }

  #begin(operation: ClaimedOperation): void {
    const claim: Claim = { operation, dispatcherId: this.id, signal: this.#abort.signal, sent: false }
    const done = this.#options.execute(claim).then((outcome) => {
      // Without an outcome the claim stays as it is: somebody else goes on with what was sent.
      if (!this.#running.delete(operation.id) || outcome === null) return
      this.#finished.push({ operation, outcome })
      if (this.#finished.length >= this.#batch) this.#helping ??= this.#help()
      this.wake()
    })
    this.#running.set(operation.id, { claim, done })
  }

  async #rest(client: pg.PoolClient): Promise<void> {
    if (this.#free > 0 && !this.#asleep) {
      await sayAsleep(client, this.id)
      this.#asleep = true
      return // looks once more: what came before we said so did not wake us
    }
    this.#busyRounds = 0
    await this.#wakeUp.sleep(this.#emptied.pauseMs(this.#options.pollMs))
  }

  async #giveBackUnsent(): Promise<void> {
    const unsent = [...this.#running.values()].filter(({ claim }) => !claim.sent)
    for (const { claim } of unsent) this.#running.delete(claim.operation.id)
    if (unsent.length > 0) {
      await giveBackOperations(this.#options.pool, this.id, unsent.map(({ claim }) => claim.operation))
    }
  }
}

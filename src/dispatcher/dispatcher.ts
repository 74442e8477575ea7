import { setImmediate as nextTick } from 'node:timers/promises'
import type pg from 'pg'
import { type ClaimedOperation, type RoundResult, settleAndClaim } from '../store/claim.ts'
import { sayAsleep } from '../store/dispatchers.ts'
import { giveBackOperations } from '../store/release.ts'
import { BesideTheLoop } from './beside-the-loop.ts'
import { EmptiedLines } from './emptied-lines.ts'
import { everything, HeadSearch } from './head-search.ts'
import { HeldClaims } from './held-claims.ts'
import { Lanes } from './lanes.ts'
import { Lease } from './lease.ts'
import type { DispatcherOptions } from './options.ts'
import { ServedHeads } from './served-heads.ts'
import { WakeUp } from './wake-up.ts'

export type { Claim } from './held-claims.ts'

/** A pooler in transaction mode gave us another session: `invalid_sql_statement_name`, `duplicate_prepared_statement`. */
const lostPreparedStatement = new Set(['26000', '42P05'])

/**
 * One loop: settle what finished, claim into the free slots, sleep until woken. Any number of
 * dispatchers run on one database; the loop holds no state that another could miss.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions
  readonly #lanes: Lanes
  readonly #heads: ServedHeads
  readonly #wakeUp = new WakeUp()
  readonly #emptied = new EmptiedLines()
  readonly #search = new HeadSearch()
  readonly #claims: HeldClaims
  readonly #beside: BesideTheLoop
  readonly #lease: Lease
  #loop: Promise<void> | undefined
  #stopping = false
  #timeIsUp = false
  #asleep = false
  #busyRounds = 0
  #reserved = 0
  #helping: Promise<void> | undefined
  #prepared = true

  constructor(options: DispatcherOptions) {
    this.#options = options
    const { pool, log } = options
    this.#lanes = options.lanes ?? new Lanes({ pool, keys: {}, probeMs: 0, log })
    this.#heads = new ServedHeads({ ...options, lanes: this.#lanes })
    this.#claims = new HeldClaims(options.execute, () => {
      if (this.#claims.finished >= this.#batch) this.#helping ??= this.#help()
      this.#wakeUp.wake()
    })
    this.#lease = new Lease(options, {
      onLost: () => {
        this.#claims.callOff()
        this.#wakeUp.wake()
      },
      onSighting: (sighting) => this.#beside.saw(sighting),
    })
    this.#beside = new BesideTheLoop(options, {
      dispatcherId: () => this.id,
      claims: this.#claims,
      onFound: () => this.wake(),
    })
  }

  /** Another one after a lease was lost. */
  get id(): string {
    return this.#lease.id
  }

  /** Asked before every provider request: false as soon as others may take over what is held here. */
  get mayCall(): boolean {
    return !this.#lease.isLost
  }

  async start(): Promise<void> {
    await this.#lanes.start(() => this.wake())
    await this.#lease.begin().catch(async (error) => {
      await this.#lanes.stop()
      throw error
    })
    this.#beside.start()
    this.#loop = this.#serve()
  }

  /** Looks at the heads now; called on NOTIFY. */
  wake(): void {
    this.#search.renew()
    this.#wakeUp.wake()
  }

  /** Looks beside the line now; called on NOTIFY. */
  wakeBeside(): void {
    this.#beside.wake()
  }

  /**
   * Claims no more, gives back what was not sent yet, and waits up to `shutdownMs` for the rest. What
   * then still runs at the provider keeps its run id, for the next dispatcher to follow.
   */
  async stop(): Promise<void> {
    const { shutdownMs, log } = this.#options
    this.#stopping = true
    const timer = setTimeout(() => {
      this.#timeIsUp = true
      this.#claims.callOff()
      this.#wakeUp.wake()
    }, shutdownMs)
    await this.#giveBack(this.#claims.withdrawUnsent())
    this.#wakeUp.wake()
    await this.#loop
    clearTimeout(timer)
    await Promise.all([this.#beside.stop(), this.#lanes.stop()])
    await this.#lease.end()
    const left = this.#claims.running + this.#claims.finished
    log.info({ dispatcher: this.id, left }, 'dispatcher stopped')
  }

  get #free(): number {
    if (this.#stopping || this.#lease.isLost) return 0
    return this.#options.concurrency - this.#claims.running - this.#reserved
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
        if (this.#lease.isLost && this.#claims.finished === 0) await this.#goOnAnew()
        const result = await this.#round(client)
        failures = 0
        await nextTick() // lets handlers that finish at once join the next round
        const more = this.#claims.finished > 0 || (result.fullHouse && this.#free > 0)
        if (!more && !this.#lease.isLost) await this.#rest(client)
      } catch (error) {
        this.#options.log.warn({ err: error }, 'round failed; will try again')
        client?.release(true)
        client = undefined
        this.#asleep = false // what we said of it may not have arrived
        if (this.#timeIsUp) break
        await this.#wakeUp.sleep(Math.min(100 * 2 ** failures++, 1000))
      }
    }
    await this.#helping
    client?.release()
  }

  /** A second pair of hands: runs rounds on a connection of its own while more is finished than one round takes. */
  async #help(): Promise<void> {
    const client = await this.#options.pool.connect().catch(() => undefined)
    let broken = client === undefined
    while (client && !broken && this.#claims.finished >= this.#batch) {
      await this.#round(client).catch(() => {
        broken = true // the loop settles what is left, and reports what is wrong
      })
      await nextTick()
    }
    client?.release(broken)
    this.#helping = undefined
    this.#wakeUp.wake()
  }

  #isOver(): boolean {
    if (!this.#stopping || this.#claims.finished > 0 || this.#helping) return false
    return this.#claims.running === 0 || this.#timeIsUp
  }

  async #round(client: pg.PoolClient): Promise<RoundResult> {
    const { providers, most, isProbe } = await this.#heads.next(this.#free)
    const settlements = this.#claims.take(this.#batch)
    const holder = settlements[0]?.dispatcherId ?? this.id
    // Under an id we had before we settle what is left of that time, and claim nothing.
    const free = holder === this.id ? Math.min(this.#free, this.#batch, most) : 0
    const looked = this.#emptied.next()
    const awake = this.#asleep && this.#busyRounds >= 2
    this.#reserved += free
    const answered = this.#claims.unheard.begin()
    let result: RoundResult
    try {
      const look = isProbe ? everything() : this.#search.next()
      result = await settleAndClaim(client, holder, {
        settlements,
        emptied: looked.map(({ thread }) => thread),
        free,
        providers,
        defaultProvider: this.#options.defaultProvider,
        ...look,
        awake,
        prepared: this.#prepared,
      })
      this.#search.after(look, result)
      this.#claims.settled(settlements)
      for (const { operation } of settlements) this.#options.onPoint?.('after_settle', operation)
    } catch (error) {
      this.#claims.notSettled(settlements)
      if (lostPreparedStatement.has((error as { code?: string }).code ?? '')) this.#prepared = false
      throw error
    } finally {
      this.#reserved -= free
      setImmediate(answered) // by then its claims are taken in
    }
    if (awake) this.#asleep = false
    this.#emptied.after(
      looked,
      settlements.map(({ operation }) => operation.thread_id),
      result,
    )
    if (result.late > 0)
      this.#options.log.warn({ late: result.late }, 'outcomes came too late: the claims were lost')
    this.#busyRounds = result.claimed.length > 0 ? this.#busyRounds + 1 : 0
    if (this.#stopping) await this.#giveBack(result.claimed, holder)
    // What came in under a lost lease is left to whoever releases it.
    else if (holder === this.id && !this.#lease.isLost) {
      for (const operation of result.claimed) this.#claims.begin(operation, holder)
    }
    return result
  }

  async #rest(client: pg.PoolClient): Promise<void> {
    if (this.#free > 0 && !this.#asleep) {
      await sayAsleep(client, this.id)
      this.#asleep = true
      return // looks once more: what came before we said so did not wake us
    }
    this.#busyRounds = 0
    const woken = await this.#wakeUp.sleep(this.#emptied.pauseMs(this.#options.pollMs))
    if (!woken) this.#search.renew()
  }

  async #giveBack(operations: readonly ClaimedOperation[], holder = this.id): Promise<void> {
    if (operations.length === 0) return
    const { pool, log } = this.#options
    // Those that cannot be given back now are released when we have signed off.
    await giveBackOperations(pool, holder, operations).catch((error) =>
      log.warn({ err: error }, 'could not give back'),
    )
  }

  async #goOnAnew(): Promise<void> {
    await this.#lease.renew()
    this.#asleep = false
  }
}

import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import { type Beat, type Sighting, signOff } from '../store/dispatchers.ts'
import { LeaseSession, type LeaseSessionOptions } from './lease-session.ts'
import { WakeUp } from './wake-up.ts'
import { Watchdog } from './watchdog.ts'

export type LeaseOptions = LeaseSessionOptions & { heartbeatMs: number; log: Logger }

type Listener = {
  /** Everything must be called off. */
  onLost(): void
  /** Every beat also tells who else beats. */
  onSighting(sighting: Sighting): void
}

const newId = () => `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`

/** Part of the silence that others bear with, after which the silent one itself gives up. */
const certainPart = 2 / 3
const reconnectMs = { first: 50, longest: 250 }

/**
 * A dispatcher's place on the list of dispatchers, kept by beats on a connection of its own. It counts
 * from the moment at which the last confirmed beat was sent, by the monotonic clock: when two thirds of
 * the silence that others bear with are over (the grace of a direct connection, else the lease), it is
 * lost, and by the time others take the claims over this dispatcher sends nothing. It goes on under a
 * new id, because what the old one held is no longer its own.
 *
 * A connection that merely breaks loses nothing: there is time to open another and beat on.
 */
export class Lease {
  readonly #options: LeaseOptions
  readonly #listener: Listener
  readonly #pause = new WakeUp()
  #id = newId()
  #session: LeaseSession | undefined
  #pooled = false
  // Not part of the beat, which may hang in a connection that nobody answers on.
  readonly #watchdog = new Watchdog(() => this.#lose())
  #lost = false
  #ended = false

  constructor(options: LeaseOptions, listener: Listener) {
    this.#options = options
    this.#listener = listener
  }

  get id(): string {
    return this.#id
  }

  /** Also true as soon as it is over for good. Whoever asks too late is the first to notice the loss. */
  get isLost(): boolean {
    if (this.#watchdog.isOver) this.#lose()
    return this.#lost || this.#ended
  }

  async begin(): Promise<void> {
    await this.#signOnAs(this.#id)
  }

  /** Signs off as whom we lost the lease, and on as somebody new. */
  async renew(): Promise<void> {
    const before = this.#id
    await this.#signOnAs(newId(), before)
    this.#options.log.info({ dispatcher: this.#id, before }, 'dispatcher goes on under a new id')
  }

  async end(): Promise<void> {
    this.#ended = true
    this.#release()
    const { pool, log } = this.#options
    await signOff(pool, this.#id).catch((error) => log.warn({ err: error }, 'could not sign off'))
  }

  async #signOnAs(id: string, before: string | null = null): Promise<void> {
    this.#release()
    const session = await this.#open(id, this.#options.leaseMs)
    const sentAt = performance.now()
    try {
      await session.signOn(this.#options, before)
    } catch (error) {
      session.close()
      throw error
    }
    this.#id = id
    this.#session = session
    this.#lost = false
    this.#confirm(sentAt)
    void this.#beatOn(id)
  }

  async #beatOn(id: string): Promise<void> {
    for (let failures = 0; this.#keeps(id); ) {
      try {
        const pauseMs = await this.#beat(id)
        failures = 0
        if (this.#keeps(id)) await this.#pause.sleep(pauseMs)
      } catch (error) {
        if (!this.#keeps(id)) return
        this.#options.log.warn({ err: error }, 'heartbeat failed; will connect again')
        this.#drop()
        await this.#pause.sleep(Math.min(reconnectMs.first * 2 ** failures++, reconnectMs.longest))
      }
    }
  }

  /** Returns the pause until the next. */
  async #beat(id: string): Promise<number> {
    const { heartbeatMs, graceMs, log } = this.#options
    const session = this.#session ?? (await this.#open(id, graceMs))
    if (!this.#keeps(id)) {
      session.close()
      return 0
    }
    this.#session = session
    const sentAt = performance.now()
    const { outcome, sighting }: Beat = await session.beat(this.#pooled)
    if (!this.#keeps(id)) return 0
    if (!session.isDirect && !this.#pooled) {
      this.#pooled = true
      log.info(
        'there is a pooler before the database: only the heartbeat shows that this one lives',
      )
    }
    if (outcome === 'gone') this.#lose()
    if (outcome === 'beaten') this.#confirm(sentAt)
    this.#listener.onSighting(sighting)
    return outcome === 'beaten' ? heartbeatMs : heartbeatMs / 4
  }

  #open(id: string, timeoutMs: number): Promise<LeaseSession> {
    // A connection that ends is replaced at once, not at the next beat.
    const onEnd = () => this.#pause.wake()
    return LeaseSession.open(id, this.#options.pool, { timeoutMs, onEnd })
  }

  #keeps(id: string): boolean {
    return id === this.#id && !this.#lost && !this.#ended
  }

  #confirm(sentAt: number): void {
    const { graceMs, leaseMs } = this.#options
    const bearableMs = this.#pooled ? leaseMs : Math.min(graceMs, leaseMs)
    this.#watchdog.moveTo(sentAt + bearableMs * certainPart)
  }

  #lose(): void {
    if (this.#ended || this.#lost) return
    this.#lost = true
    this.#release()
    const { log } = this.#options
    log.error({ dispatcher: this.#id }, 'no beat was confirmed in time: everything is called off')
    this.#listener.onLost()
  }

  #release(): void {
    this.#watchdog.stop()
    this.#drop()
    this.#pause.wake()
  }

  #drop(): void {
    this.#session?.close()
    this.#session = undefined
  }
}

import { hostname } from 'node:os'
import type pg from 'pg'
import { announcedBackend, connectBeside } from '../db/beside-pool.ts'
import { type Beat, beat, signOn, takeSessionLock } from '../store/dispatchers.ts'

export type LeaseSessionOptions = {
  pool: pg.Pool
  concurrency: number
  providers: readonly string[]
  graceMs: number
  leaseMs: number
}

/**
 * The connection on which a dispatcher beats under one id. Where no pooler stands between, it holds
 * the session lock, which the server frees the moment this connection ends.
 */
export class LeaseSession {
  readonly #client: pg.Client
  readonly #id: string
  readonly #backend: number | null
  #isLocked = false
  #isClosed = false
  #isDirect: boolean

  private constructor(client: pg.Client, id: string) {
    this.#client = client
    this.#id = id
    this.#backend = announcedBackend(client)
    this.#isDirect = this.#backend !== null
  }

  /** Throws what connecting throws; `onEnd` is told when the connection is lost later. */
  static async open(
    id: string,
    pool: pg.Pool,
    { timeoutMs, onEnd }: { timeoutMs: number; onEnd: () => void },
  ): Promise<LeaseSession> {
    const applicationName = 'inturn dispatch, lease'
    const client = await connectBeside(pool, { applicationName, timeoutMs })
    const session = new LeaseSession(client, id)
    client.on('end', () => !session.#isClosed && onEnd())
    return session
  }

  /** False from the first statement on that another backend than the announced one carried out. */
  get isDirect(): boolean {
    return this.#isDirect
  }

  async signOn(options: LeaseSessionOptions, before: string | null): Promise<void> {
    const announcement = { ...options, id: this.#id, host: hostname(), pid: process.pid }
    await signOn(this.#client, announcement, before)
  }

  /** `pooled`: an earlier session was found to have a pooler between; another one behind it may look direct by chance. */
  async beat(pooled: boolean): Promise<Beat> {
    if (pooled) this.#isDirect = false
    // The session before this one, or somebody who tries whether the lock is free, may hold it for a moment.
    if (this.#isDirect && !this.#isLocked) {
      this.#isLocked = (await takeSessionLock(this.#client, this.#id, this.#backend)) === true
    }
    const result = await beat(this.#client, this.#id, this.#isDirect ? this.#backend : null)
    if (result.backend !== this.#backend) this.#isDirect = false
    return result
  }

  /** Also when a statement hangs in it. */
  close(): void {
    this.#isClosed = true
    void this.#client.end().catch(() => {})
  }
}

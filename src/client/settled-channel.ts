import type pg from 'pg'
import { type Listener, listen } from '../db/listen.ts'
import { settledChannel } from '../store/waiters.ts'

export type SettledChannelOptions = {
  source: { databaseUrl: string } | { pool: pg.Pool }
  onSettled: (operationId: number) => void
  /** Something may have been missed. */
  onConnected: () => void
}

/** How long the connection is kept after the last one who waited has left. */
const lingerMs = 5_000

/** One connection that hears of settled operations: there while somebody waits, and a little longer. */
export class SettledChannel {
  readonly #options: SettledChannelOptions
  #listener: Listener | undefined
  #linger: NodeJS.Timeout | undefined
  #closing: Promise<void> = Promise.resolve()

  constructor(options: SettledChannelOptions) {
    this.#options = options
  }

  /** Listens from now on, if it can: without it everybody still finds out by looking. */
  open(): void {
    clearTimeout(this.#linger)
    const { source, onSettled, onConnected } = this.#options
    // A pool of one connection would have none left to look with.
    if ('pool' in source && source.pool.options.max === 1) return
    this.#listener ??= listen({
      ...source,
      channels: [settledChannel],
      onNotify: (_, operationId) => onSettled(Number(operationId)),
      onConnected,
    })
  }

  /** Nobody waits any more. */
  idle(): void {
    clearTimeout(this.#linger)
    this.#linger = setTimeout(() => this.close(), lingerMs)
  }

  async close(): Promise<void> {
    clearTimeout(this.#linger)
    if (this.#listener) this.#closing = this.#listener.close()
    this.#listener = undefined
    await this.#closing
  }
}

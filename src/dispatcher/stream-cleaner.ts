import type pg from 'pg'
import { deleteOldStreams } from '../store/streams.ts'

/** Most streams deleted at once. */
const bite = 200

/** Deletes streams of operations that have been over for long: in small bites, and not too often. */
export class StreamCleaner {
  readonly #pool: pg.Pool
  readonly #retentionMs: number
  #nextAt = 0

  constructor(pool: pg.Pool, retentionMs = 3_600_000) {
    this.#pool = pool
    this.#retentionMs = retentionMs
  }

  /** A chore; it makes nothing ready to be served. */
  async clean(): Promise<false> {
    const now = performance.now()
    if (now < this.#nextAt) return false
    // Each look passes the streams of operations that take longer than streams are kept.
    const pauseMs = Math.min(Math.max(this.#retentionMs / 20, 1_000), 60_000)
    const isMore = (await deleteOldStreams(this.#pool, this.#retentionMs, bite)) === bite
    if (!isMore) this.#nextAt = now + pauseMs
    return false
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Logger } from 'pino'
import type { LoggedEvent } from '../model/stream-event.ts'
import type { StreamSink } from '../operations/operation-stream.ts'
import { appendToStreams, readLoggedEvents } from '../store/streams.ts'
import type { Claim } from './held-claims.ts'
import { UnwrittenStream } from './unwritten-stream.ts'

/** How long events are gathered before they are written, in milliseconds. */
const gatherMs = 60
/** So many characters of one operation are not gathered any longer. */
const gatheredMost = 32_768
/** Pause after a statement that failed, in milliseconds. */
const backoffMs = 500
/** How long an operation waits at its end for its last words to be written, in milliseconds. */
const patienceMs = 1_000

/** The stream of one claim. */
type ClaimStream = StreamSink & {
  /** Resolves when all is written; gives up what cannot be. Never rejects, and nothing can be written after it. */
  close: () => Promise<void>
}

/**
 * Writes down what the operations of a dispatcher say: now and then, and in one statement for all. No
 * operation waits for it but at its end, and none fails because of it.
 */
export class StreamWriter {
  readonly #pool: pg.Pool
  readonly #log: Logger
  readonly #unwritten = new Set<UnwrittenStream>()
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<'done' | 'failed'> | undefined
  #isClosed = false

  constructor({ pool, log }: { pool: pg.Pool; log: Logger }) {
    this.#pool = pool
    this.#log = log
  }

  /** The stream of a claim, which goes on where an earlier one has left it. Never rejects. */
  async open(claim: Claim): Promise<ClaimStream> {
    const stream = new UnwrittenStream(claim)
    return {
      earlier: await this.#earlier(claim),
      write: (event) => this.#add(stream, event),
      close: () => this.#finish(stream),
    }
  }

  /** Writes nothing more. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await this.#writing
  }

  async #earlier({ operation }: Claim): Promise<readonly LoggedEvent[] | null> {
    if (operation.attempts === 1 || operation.progress === null) return []
    return readLoggedEvents(this.#pool, operation.id).catch((error) => {
      this.#warn(error, 'a stream could not be read: it begins anew')
      return null
    })
  }

  #add(stream: UnwrittenStream, event: LoggedEvent): void {
    stream.add(event)
    this.#unwritten.add(stream)
    if (stream.size >= gatheredMost) void this.#write()
    else this.#writeIn(gatherMs)
  }

  #writeIn(ms: number): void {
    if (!this.#isClosed) this.#timer ??= setTimeout(() => void this.#write(), ms)
  }

  /** Writes what was gathered by now, or joins those for whom it is being done. */
  #write(): Promise<'done' | 'failed'> {
    this.#writing ??= this.#append().then((outcome) => {
      this.#writing = undefined
      if (this.#unwritten.size > 0) this.#writeIn(outcome === 'done' ? gatherMs : backoffMs)
      return outcome
    })
    return this.#writing
  }

  async #append(): Promise<'done' | 'failed'> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const batch = [...this.#unwritten].map((stream) => ({ stream, piece: stream.take() }))
    this.#unwritten.clear()
    try {
      const written = await appendToStreams(
        this.#pool,
        batch.map(({ piece }) => piece),
      )
      for (const { stream, piece } of batch) {
        const isThere = written.get(piece.operationId)
        if (isThere) stream.written()
        // Somebody else speaks for the operation now.
        else if (isThere === undefined) stream.close()
        else this.#again(stream)
      }
      return 'done'
    } catch (error) {
      for (const { stream } of batch) this.#again(stream)
      this.#warn(error, 'streams could not be written; will try again')
      return 'failed'
    }
  }

  #again(stream: UnwrittenStream): void {
    stream.notWritten()
    if (stream.isPending) this.#unwritten.add(stream)
  }

  async #finish(stream: UnwrittenStream): Promise<void> {
    const done = new AbortController()
    const late = sleep(patienceMs, 'late', { signal: done.signal }).catch(() => 'late')
    while (stream.isPending && !this.#isClosed) {
      const outcome = await Promise.race([this.#write(), late])
      if (outcome === 'late') break
      if (outcome === 'failed') await Promise.race([sleep(backoffMs), late])
    }
    done.abort()
    stream.close()
    this.#unwritten.delete(stream)
  }

  /** The words of a database error may quote content. */
  #warn(error: unknown, message: string): void {
    const { name, code } = error as { name?: string; code?: string }
    this.#log.warn({ error: name, code }, message)
  }
}

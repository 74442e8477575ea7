import { createHash } from 'node:crypto'
import type { RouteKind } from './route-kinds.ts'

/** A request to the API, as the judge of a test wants it. */
export type RequestEntry = {
  /** When it had arrived. */
  at: Date
  method: string
  /** Without the query. */
  path: string
  /** What it asks for, such as `runs.create`; null when there is no such route. */
  kind: RouteKind | null
  /** The thread or conversation that it is about. */
  threadId: string | null
  /** Which API key: the first 12 hexadecimal digits of its SHA-256; null without one. */
  key: string | null
  /** `open`: not yet answered, and perhaps never. `cut`: its connection was reset instead. */
  answer: 'open' | 'ok' | 'refused' | 'cut'
  /** HTTP status; null where there is no answer. */
  status: number | null
  /** The code of a refusal, where it has one. */
  code: string | null
}

/** All that is said must hold. */
export type RequestFilter = {
  /** An API key, or its fingerprint as an entry shows it. */
  key?: string
  /** Arrived then or later. */
  since?: Date
  kind?: RouteKind
  thread?: string
}

const kept = 100_000

/** The newest requests, 100,000 of them at least. */
export class RequestLog {
  /** How many there were, kept or not. */
  count = 0
  #entries: RequestEntry[] = []

  begin(method: string, path: string, key: string | null): RequestEntry {
    const entry: RequestEntry = {
      at: new Date(),
      method,
      path,
      kind: null,
      threadId: null,
      key: key === null ? null : fingerprint(key),
      answer: 'open',
      status: null,
      code: null,
    }
    this.count++
    this.#entries.push(entry)
    if (this.#entries.length >= 2 * kept) this.#entries = this.#entries.slice(-kept)
    return entry
  }

  /** Oldest first. */
  find({ key, since, kind, thread }: RequestFilter = {}): RequestEntry[] {
    const keys = key === undefined ? null : [key, fingerprint(key)]
    return this.#entries
      .filter(
        (entry) =>
          (keys === null || (entry.key !== null && keys.includes(entry.key))) &&
          (since === undefined || entry.at >= since) &&
          (kind === undefined || entry.kind === kind) &&
          (thread === undefined || entry.threadId === thread),
      )
      .map((entry) => ({ ...entry }))
  }
}

const fingerprint = (key: string): string =>
  createHash('sha256').update(key).digest('hex').slice(0, 12)

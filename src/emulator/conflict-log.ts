import { isDeepStrictEqual } from 'node:util'
import {
  type Conflict,
  type ConflictCause,
  type ConflictKind,
  conflictCauses,
  conflictKinds,
} from './api-error.ts'
import type { RunLog } from './run-log.ts'

/** A lock error that was served. */
export type ConflictEntry = Required<Conflict> & {
  at: Date
  threadId: string | null
  /** The refused request carries the metadata of the run that refuses it, so it was sent again. */
  resent: boolean
}

export class ConflictLog {
  readonly #runs: RunLog
  readonly #entries: ConflictEntry[] = []

  constructor(runs: RunLog) {
    this.#runs = runs
  }

  add(conflict: Conflict, threadId: string | null, body: unknown): void {
    const { metadata } = (body ?? {}) as { metadata?: object }
    const tagged = metadata && Object.keys(metadata).length > 0
    const held = conflict.runId === null ? undefined : this.#runs.metadataOf(conflict.runId)
    const resent = Boolean(tagged) && isDeepStrictEqual({ ...metadata }, { ...held })
    this.#entries.push({ at: new Date(), threadId, probe: false, ...conflict, resent })
  }

  get entries(): ConflictEntry[] {
    return this.#entries.map((entry) => ({ ...entry }))
  }

  get byKind(): Record<ConflictKind, number> {
    return this.#count(conflictKinds, 'kind')
  }

  get byCause(): Record<ConflictCause, number> {
    return this.#count(conflictCauses, 'cause')
  }

  #count<K extends string>(names: readonly K[], field: 'kind' | 'cause'): Record<K, number> {
    const counts = names.map((name) => [
      name,
      this.#entries.filter((entry) => (entry[field] as string) === name).length,
    ])
    return Object.fromEntries(counts)
  }
}

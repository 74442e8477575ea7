/** A run or response, as the judge of a test wants it. */
export type RunEntry = {
  /** `run_…` or `resp_…` */
  id: string
  /** `thread_…` or `conv_…`; null for a response without a conversation. */
  threadId: string | null
  /** What it shows now. */
  status: string
  metadata: Record<string, string>
  /** An outsider's, started by `foreignRun`. */
  foreign: boolean
  startedAt: Date
  /** Null while it is active. */
  endedAt: Date | null
}

type Worked = { id: string; status?: string; metadata: Record<string, string> | null }
type Entry = { run: Worked } & Pick<RunEntry, 'threadId' | 'foreign' | 'startedAt' | 'endedAt'>

/** Every run there was, also those whose thread is gone. */
export class RunLog {
  readonly #entries = new Map<string, Entry>()
  #foreign = 0

  /** By requests. */
  get byRequests(): number {
    return this.#entries.size - this.#foreign
  }

  /** By outsiders. */
  get byOutsiders(): number {
    return this.#foreign
  }

  started(run: Worked, threadId: string | null, foreign: boolean): void {
    if (foreign) this.#foreign++
    this.#entries.set(run.id, { run, threadId, foreign, startedAt: new Date(), endedAt: null })
  }

  ended({ id }: Worked): void {
    const entry = this.#entries.get(id)
    if (entry) entry.endedAt ??= new Date()
  }

  metadataOf(id: string): Record<string, string> | undefined {
    return this.#entries.get(id)?.run.metadata ?? undefined
  }

  /** In the order in which they started; of one thread, or all. */
  find(threadId?: string): RunEntry[] {
    return [...this.#entries.values()]
      .filter((entry) => threadId === undefined || entry.threadId === threadId)
      .map(({ run: { id, status = '', metadata }, ...entry }) => ({
        id,
        status,
        metadata: { ...metadata },
        ...entry,
      }))
  }
}

import type pg from 'pg'

/** What a dispatcher held when it died. */
type Held = {
  thread: string
  attempt: number
  /** A call whose outcome nobody knows was under way. */
  unknownCall: boolean
  goneAt: Date
  how: 'kill' | 'stop'
}

/** How long a thread had to wait for somebody else, in milliseconds. */
export type Recovery = Pick<Held, 'how' | 'unknownCall'> & { ms: number }

/** Remembers what the dead held, to find in the ledger when somebody else went on with it. */
export class Deaths {
  readonly #pool: pg.Pool
  readonly #held: Held[] = []

  constructor(pool: pg.Pool) {
    this.#pool = pool
  }

  async note(pid: number, how: 'kill' | 'stop'): Promise<void> {
    const goneAt = new Date()
    try {
      const { rows } = await this.#pool.query(
        `select o.thread_id, o.attempts, o.intent is not null as unknown_call
           from thread_operations o join dispatchers d on d.id = o.claimed_by
          where d.pid = $1 and o.status = 'processing'`,
        [pid],
      )
      for (const { thread_id, attempts, unknown_call } of rows)
        this.#held.push({
          thread: thread_id,
          attempt: attempts,
          unknownCall: unknown_call,
          goneAt,
          how,
        })
    } catch {
      // The database is away as well: this death is not measured.
    }
  }

  /** Of those that were taken over: who was stopped and went on in time lost nothing. */
  async recoveries(): Promise<Recovery[]> {
    const found: Recovery[] = []
    for (const { thread, attempt, goneAt, how, unknownCall } of this.#held) {
      const { rows } = await this.#pool.query(
        `select min(e.at) as at from operation_events e
          where e.thread_id = $1 and e.to_status = 'processing' and e.attempt > $2 and e.at > $3
            and exists (select from operation_events r
                         where r.thread_id = e.thread_id and r.operation_id = e.operation_id and r.attempt = $2
                           and r.to_status = 'pending' and r.code is null and r.at between $3 and e.at)`,
        [thread, attempt, goneAt],
      )
      const at: Date | null = rows[0].at
      if (at) found.push({ how, unknownCall, ms: at.getTime() - goneAt.getTime() })
    }
    return found
  }
}

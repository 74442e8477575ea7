import type pg from 'pg'

/** How a dispatcher went away. */
export type Death = 'kill' | 'stop'

/** What it held then. */
type Held = {
  how: Death
  goneAt: Date
  thread: string
  operation: number
  attempt: number
  /** A call was under way, so that nobody knows at once what came of it. */
  inFlight: boolean
}

/** How long a thread had to wait for somebody else, in milliseconds. */
export type Recovery = Pick<Held, 'how' | 'inFlight'> & {
  /** Until the claim was taken from the dead. */
  releasedMs: number
  /** Until somebody served the thread again: later where its operation waits, or its lane rests. */
  servedMs: number
}

/** Remembers what the dead held, to find in the ledger when others went on with it. */
export class Deaths {
  readonly #pool: pg.Pool
  readonly #held: Held[] = []

  constructor(pool: pg.Pool) {
    this.#pool = pool
  }

  async note(pid: number, how: Death): Promise<void> {
    const goneAt = new Date()
    try {
      const { rows } = await this.#pool.query(
        `select o.thread_id as thread, o.id as operation, o.attempts as attempt, o.intent is not null as "inFlight"
           from thread_operations o join dispatchers d on d.id = o.claimed_by
          where d.pid = $1 and o.status = 'processing'`,
        [pid],
      )
      for (const row of rows) this.#held.push({ how, goneAt, ...row })
    } catch {
      // The database is away as well: this death is not measured.
    }
  }

  /** Without those that nobody had to take over, because the dispatcher went on in time. */
  async recoveries(): Promise<Recovery[]> {
    const found: Recovery[] = []
    for (const { how, goneAt, thread, operation, attempt, inFlight } of this.#held) {
      const { rows } = await this.#pool.query(
        `select r.at as released, (select min(e.at) from operation_events e
                                    where e.thread_id = r.thread_id and e.to_status = 'processing' and e.id > r.id) as served
           from operation_events r
          where r.thread_id = $1 and r.operation_id = $2 and r.attempt = $3 and r.at > $4
            and r.from_status = 'processing' and r.to_status = 'pending' and r.retry_at <= r.at`,
        [thread, operation, attempt, goneAt],
      )
      const [event] = rows
      if (event?.served)
        found.push({
          how,
          inFlight,
          releasedMs: event.released.getTime() - goneAt.getTime(),
          servedMs: event.served.getTime() - goneAt.getTime(),
        })
    }
    return found
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Emulator } from '../src/emulator/index.ts'
import type { Sent } from '../test/support/promised-order.ts'
import type { ChaosDatabase } from './database.ts'
import type { Disturbance } from './disturbances.ts'
import type { Fleet } from './fleet.ts'
import { type Held, holdThread } from './holders.ts'
import { cutSessions, holdRows, runAsOutsider, takeConnections } from './interference.ts'
import type { Plan } from './plan.ts'
import type { Scale } from './scale.ts'
import { write } from './writers.ts'

type Staged = {
  plan: Plan
  scale: Scale
  seed: number
  signal: AbortSignal
  database: ChaosDatabase
  emulator: Emulator
  fleet: Fleet
  pool: pg.Pool
}

/** Carries out a plan. */
export class Stage {
  readonly #on: Staged
  readonly #startedAt = performance.now()
  readonly sent: Sent[] = []
  /** Runs that callers made while they held a thread, and kept it. */
  readonly held: Held[] = []
  readonly counts = { sessionsCut: 0, connectionsTaken: 0, heldRows: 0, foreignRuns: 0 }
  #clock = 0

  constructor(staged: Staged) {
    this.#on = staged
  }

  async perform(): Promise<void> {
    const { plan, scale, emulator, seed, database } = this.#on
    const writing = { due: this.#due, clock: () => ++this.#clock, sent: this.sent }
    const played = await Promise.allSettled([
      ...plan.disturbances.map(async (disturbance) => {
        await this.#due(disturbance.atMs)
        await this.#disturb(disturbance)
      }),
      ...plan.weathers.map(async ({ atMs, faults }, i) => {
        await this.#due(atMs)
        emulator.setFaults(faults, { seed: seed + i })
      }),
      ...Array.from({ length: scale.writers }, (_, writer) =>
        write(
          database.url,
          plan.transactions.filter((_, i) => i % scale.writers === writer),
          writing,
        ),
      ),
    ])
    // Not before all have ended: what one of them is about to start must not outlive us.
    for (const part of played) if (part.status === 'rejected') throw part.reason
    emulator.setFaults([])
  }

  #due = async (atMs: number): Promise<void> => {
    await this.#pause(atMs - (performance.now() - this.#startedAt))
  }

  #pause = async (ms: number): Promise<void> => {
    await sleep(Math.max(0, ms), undefined, { signal: this.#on.signal })
  }

  async #disturb(disturbance: Disturbance): Promise<void> {
    const { database, emulator, fleet, pool } = this.#on
    switch (disturbance.what) {
      case 'restart database':
        return database.restart(disturbance.mode, () => this.#pause(disturbance.downMs))
      case 'hold rows':
        if (await holdRows(database.url, disturbance, this.#pause)) this.counts.heldRows++
        return
      case 'take connections':
        this.counts.connectionsTaken += await takeConnections(
          database.url,
          this.#pause,
          disturbance,
        )
        return
      case 'foreign run':
        if (await runAsOutsider(pool, emulator, disturbance)) this.counts.foreignRuns++
        return
      case 'hold': {
        const held = await holdThread(pool, emulator, disturbance, this.#on.scale.drainMs)
        if (held) this.held.push(held)
        return
      }
      case 'cut sessions':
        this.counts.sessionsCut += await cutSessions(pool, disturbance)
        return
      default:
        return fleet.disturb(disturbance, this.#pause)
    }
  }
}

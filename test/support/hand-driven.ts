import pg from 'pg'
import type { Outcome } from '../../src/model/outcome.ts'
import {
  type ClaimedOperation,
  type Round,
  type RoundResult,
  settleAndClaim,
} from '../../src/store/claim.ts'
import { type Announcement, signOn } from '../../src/store/dispatchers.ts'

export const completed: Outcome = { status: 'completed', result: {} }

export const failed: Outcome = { status: 'failed', error: { code: 'no', message: 'No.' } }

export const heldBecause = (code: string): Outcome => ({
  status: 'held',
  error: { code, message: 'An operator must look.' },
})

export const retryIn = (delayMs: number): Outcome => ({
  status: 'retry',
  error: { code: 'rate_limited', message: 'Not now.' },
  delayMs,
  burnsAttempt: false,
})

/** A dispatcher whose rounds a test takes one by one, in the order that is worst. */
export class HandDriven {
  readonly id: string
  readonly #client: pg.ClientBase

  private constructor(id: string, client: pg.ClientBase) {
    this.id = id
    this.#client = client
  }

  /** On a connection of its own; on the dispatchers' list. */
  static async signOn(
    client: pg.ClientBase,
    id = 'd1',
    given: Partial<Announcement> = {},
  ): Promise<HandDriven> {
    await signOn(client, { ...announcement(id), ...given })
    return new HandDriven(id, client)
  }

  /** One round of the loop; without anything said it claims up to 10 heads of `responses`. */
  round(given: Partial<Round> = {}): Promise<RoundResult> {
    return settleAndClaim(this.#client, this.id, {
      settlements: [],
      emptied: [],
      free: 10,
      providers: ['', 'responses'],
      defaultProvider: 'responses',
      priorities: [0],
      floors: null,
      awake: false,
      prepared: false,
      ...given,
    })
  }

  async claim(given: Partial<Round> = {}): Promise<ClaimedOperation[]> {
    return (await this.round(given)).claimed
  }

  /** Claims the one operation that may be served now. */
  async claimOnly(given: Partial<Round> = {}): Promise<ClaimedOperation> {
    const claimed = await this.claim(given)
    const [only] = claimed
    if (only === undefined || claimed.length > 1) {
      throw new Error(`${claimed.length} operations were served instead of one`)
    }
    return only
  }

  /** Settles without claiming anything, unless `given` has free slots. */
  settle(
    operations: ClaimedOperation | ClaimedOperation[],
    outcome: Outcome = completed,
    given: Partial<Round> = {},
  ): Promise<RoundResult> {
    const settlements = [operations].flat().map((operation) => ({ operation, outcome }))
    return this.round({ settlements, free: 0, ...given })
  }
}

export const announcement = (id: string): Announcement => ({
  id,
  host: 'here',
  pid: 1,
  concurrency: 10,
  providers: ['responses'],
  graceMs: 1_400,
  leaseMs: 14_000,
})

/** Waits until somebody else's lock holds up `client`. */
export async function isBlocked(pool: pg.Pool, client: pg.ClientBase): Promise<boolean> {
  const { rows } = await pool.query('select cardinality(pg_blocking_pids($1)) > 0 as blocked', [
    backendOf(client),
  ])
  return rows[0].blocked
}

/** The server process of a connection, which the typings leave out. */
const backendOf = (client: pg.ClientBase): number =>
  (client as unknown as { processID: number }).processID

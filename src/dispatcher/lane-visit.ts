import type pg from 'pg'
import { NotYet } from '../operations/waiting.ts'
import type { ProviderFailure } from '../provider/classify-error.ts'
import type { ClaimedOperation } from '../store/claim.ts'
import { enterLane, type Pause } from '../store/lanes.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { Claim } from './held-claims.ts'
import type { Lanes, Rest } from './lanes.ts'

/** Spread of the operations that come back when a pause is over, in milliseconds. */
const spreadMs = 1_000
/** Pauses of an operation that as many runs are going on before as there may be, in milliseconds: the first, and the longest. */
const full = { baseMs: 250, maxMs: 5_000 }

/** One claim on its way through the lanes of its key and of its model. */
export class LaneVisit {
  readonly #lanes: Lanes
  readonly #claim: Claim
  readonly #pool: pg.Pool
  readonly #isProbe: boolean
  /** Of the run that the claim set out to start; undefined: it started none. */
  #model: string | undefined

  constructor(lanes: Lanes, claim: Claim, pool: pg.Pool) {
    this.#lanes = lanes
    this.#claim = claim
    this.#pool = pool
    const { provider } = claim.operation
    this.#isProbe = lanes.rest(provider, '') !== null && lanes.takePass(provider)
  }

  /** Throws NotYet where the key rests. */
  begin(): void {
    this.#requireAwake('')
  }

  /** Before a run is started: throws NotYet where a lane of it rests or is full. */
  async enter(model: string | null): Promise<void> {
    this.#model = model ?? ''
    this.#requireAwake('')
    this.#requireAwake(this.#model)
    const { operation, dispatcherId, signal } = this.#claim
    const { id, attempts, provider } = operation
    if (!this.#lanes.isLimited(provider, this.#model)) return
    const lane = { provider, key: this.#lanes.key(provider), model: this.#model }
    const fullLane = await whileLocked(signal, () =>
      enterLane(this.#pool, { dispatcherId, id, attempts }, lane),
    )
    if (fullLane === null) return
    const message = `As many runs are going on in the lane ${fullLane} as it may have.`
    throw new NotYet({ code: 'lane_full', message, lane: fullLane }, fullPauseMs(operation))
  }

  /**
   * Pauses the lane that `failure` is about, and tells when to try again; null: it is about no lane.
   * Only the start of a run names a model; what is refused `afterStart` is about the whole key.
   */
  async refused(
    failure: ProviderFailure,
    afterStart: boolean,
  ): Promise<{ lane: string; delayMs: number } | null> {
    const pause = pauseFor(failure)
    if (pause === null) return null
    const model = pause.untilProof || afterStart ? '' : (this.#model ?? '')
    const rest = await this.#lanes.pause(this.#claim.operation.provider, model, pause)
    return { lane: rest.lane, delayMs: delayAfter(rest) }
  }

  /** The operation has succeeded, so the provider serves its lanes. */
  async succeeded(): Promise<void> {
    const { provider, claimed_at } = this.#claim.operation
    await this.#lanes.forgive(provider, this.#model ?? '', claimed_at)
  }

  #requireAwake(model: string): void {
    const rest = this.#lanes.rest(this.#claim.operation.provider, model)
    if (rest === null || (this.#isProbe && model === '')) return
    const message = `The lane ${rest.lane} rests: ${rest.reason}.`
    throw new NotYet({ code: 'lane_paused', message, lane: rest.lane }, delayAfter(rest))
  }
}

/** What a failure says about the key or the model; null: it says nothing of them. */
function pauseFor({ decision, code, status, retryAfterMs }: ProviderFailure): Pause | null {
  if (decision === 'rest') return { reason: code, untilProof: true }
  // Refused by HTTP status, or found out by a run that had started already.
  const isRateLimit = status === 429 || /^(rate_limit|slow_down)/.test(code)
  if (decision !== 'retry' || !isRateLimit) return null
  return { reason: code, untilProof: false, ...(retryAfterMs !== undefined && { retryAfterMs }) }
}

/** Heads of a key that rests are looked for by nobody else than those who have another key. */
const delayAfter = ({ ms, ofKey }: Rest): number =>
  Math.round(ofKey ? jitter(spreadMs) : ms + Math.random() * Math.min(spreadMs, ms / 2))

/** Until a place may be free, in milliseconds: it grows with each wait. */
export const fullPauseMs = ({ attempts, failures }: ClaimedOperation): number =>
  Math.round(jitter(Math.min(full.baseMs * 2 ** (attempts - 1 - failures), full.maxMs)))

const jitter = (ms: number): number => ms * (0.5 + Math.random() / 2)

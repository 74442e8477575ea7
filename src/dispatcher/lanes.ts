import type pg from 'pg'
import type { Logger } from 'pino'
import { laneName } from '../model/lane.ts'
import type { ProviderName } from '../model/thread.ts'
import {
  forgiveLanes,
  type LaneId,
  type LaneRow,
  limitLane,
  type Pause,
  pauseLane,
  probeLane,
  readLanes,
} from '../store/lanes.ts'

/** Pause between two looks at the lanes, for a dispatcher that nobody tells of a change, in milliseconds. */
const refreshMs = 500

export type LanesOptions = {
  pool: pg.Pool
  /** The key that this dispatcher has at each provider, as `laneKey` gives it. */
  keys: Partial<Record<ProviderName, string>>
  /** Pause between two probes of a key that rests until one succeeds, in milliseconds; of the whole fleet. */
  probeMs: number
  /** Most runs at once with each key, in the whole fleet. Default: what the database says. */
  maxRuns?: number
  log: Logger
}

/** A lane that rests. */
export type Rest = {
  /** As `laneName` gives it. */
  lane: string
  reason: string
  /** For how much longer, in milliseconds. */
  ms: number
  /** All that is done with the key rests, so nobody who has it looks for heads of the provider. */
  ofKey: boolean
}

type KnownLane = LaneRow & { readonly endsAt: number }

/** What this dispatcher knows of the lanes of its keys: read now and then, and after each change it hears of. */
export class Lanes {
  readonly #options: LanesOptions
  /** By provider and model, as each provider has one key here. */
  #known = new Map<string, KnownLane>()
  /** Refused a moment ago and on their way into the database: known here before anywhere else. */
  readonly #refused = new Map<string, { reason: string; endsAt: number }>()
  readonly #passes = new Set<ProviderName>()
  #resting = ''
  #onChange = () => {}
  #reading: Promise<void> = Promise.resolve()
  #nextRead: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(options: LanesOptions) {
    this.#options = options
  }

  /** `onChange` is called when a key comes to rest or is served again. */
  async start(onChange: () => void): Promise<void> {
    const { pool, maxRuns } = this.#options
    this.#onChange = onChange
    for (const provider of this.#providers) {
      if (maxRuns !== undefined) await limitLane(pool, this.#id(provider), maxRuns)
    }
    await this.refresh()
    this.#timer = setInterval(() => void this.refresh(), refreshMs)
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#nextRead
    await this.#reading
  }

  /** Looks at the lanes anew; what was written before this was called is seen. Never rejects. */
  refresh(): Promise<void> {
    this.#nextRead ??= this.#reading.then(() => {
      this.#nextRead = undefined
      this.#reading = this.#read()
      return this.#reading
    })
    return this.#nextRead
  }

  /** How the key rests at this provider, or with this model; null: it does not. */
  rest(provider: ProviderName, model: string): Rest | null {
    const name = `${provider}/${model}`
    const lanes = [this.#known.get(name), this.#refused.get(name)].filter((lane) => lane != null)
    const longest = lanes.sort((a, b) => b.endsAt - a.endsAt)[0]
    const ms = (longest?.endsAt ?? 0) - performance.now()
    if (longest === undefined || ms <= 0) return null
    const lane = laneName(this.key(provider), model)
    return { lane, reason: longest.reason ?? 'paused', ms, ofKey: model === '' }
  }

  /** Whether a run needs a place: in the lane of the key, or in that of the model. */
  isLimited(provider: ProviderName, model: string): boolean {
    return ['', model].some((name) => this.#known.get(`${provider}/${name}`)?.max_runs != null)
  }

  key(provider: ProviderName): string {
    return this.#options.keys[provider] ?? ''
  }

  /** Pauses the lane in the whole fleet. Where the database does not let us, the operation alone waits. */
  async pause(provider: ProviderName, model: string, pause: Pause): Promise<Rest> {
    const { pool, log } = this.#options
    const { reason, untilProof, retryAfterMs = 1_000 } = pause
    const id = this.#id(provider, model)
    const lane = laneName(id.key, model)
    const name = `${provider}/${model}`
    this.#refused.set(name, { reason, endsAt: performance.now() + retryAfterMs })
    try {
      const ms = await pauseLane(pool, id, pause)
      log.warn({ provider, lane, reason, ...(!untilProof && { ms: Math.round(ms) }) }, 'lane rests')
      await this.refresh()
      return { lane, reason, ms, ofKey: model === '' }
    } catch (error) {
      log.warn({ err: error, provider, lane, reason }, 'lane could not be paused')
      return { lane, reason, ms: retryAfterMs, ofKey: false }
    } finally {
      this.#refused.delete(name)
    }
  }

  /** An operation claimed at `since` has succeeded: what was refused before it is forgotten. Never rejects. */
  async forgive(provider: ProviderName, model: string, since: string): Promise<void> {
    const isStruck = ['', model].some((name) => this.#known.get(`${provider}/${name}`)?.is_struck)
    if (!isStruck) return
    const { pool, log } = this.#options
    await forgiveLanes(pool, this.#id(provider, model), since).catch((error) =>
      log.warn({ err: error, provider }, 'lane could not be resumed'),
    )
    await this.refresh()
  }

  /** Whether it is worth asking for a probe. */
  get isProbeDue(): boolean {
    return this.#providers.some((provider) => this.#dueLane(provider) !== undefined)
  }

  /** The provider of which one operation is to be tried although its key rests, if it is this dispatcher's turn. */
  async takeProbe(
    headsOf: (provider: ProviderName) => string[],
  ): Promise<ProviderName | undefined> {
    const { pool, probeMs } = this.#options
    for (const provider of this.#providers) {
      const lane = this.#dueLane(provider)
      if (lane === undefined) continue
      lane.is_probe_due = false // asked once per look at the lanes
      if (await probeLane(pool, provider, lane.key, headsOf(provider), probeMs)) {
        this.#passes.add(provider)
        return provider
      }
    }
    return undefined
  }

  /** Whether this operation is the one to be tried; the next one is not. */
  takePass(provider: ProviderName): boolean {
    return this.#passes.delete(provider)
  }

  get #providers(): ProviderName[] {
    return Object.keys(this.#options.keys) as ProviderName[]
  }

  #id(provider: ProviderName, model = ''): LaneId {
    return { provider, key: this.key(provider), model }
  }

  #dueLane(provider: ProviderName): KnownLane | undefined {
    const lane = this.#known.get(`${provider}/`)
    return lane?.until_proof && lane.is_probe_due ? lane : undefined
  }

  async #read(): Promise<void> {
    const { pool, keys, probeMs, log } = this.#options
    if (this.#providers.length === 0) return
    try {
      const rows = await readLanes(pool, keys, probeMs)
      const now = performance.now()
      this.#known = new Map(
        rows.map((row) => [`${row.provider}/${row.model}`, { ...row, endsAt: now + row.rests_ms }]),
      )
    } catch (error) {
      log.warn({ err: error }, 'could not look at the lanes; will try again')
    }
    const resting = this.#providers.filter((provider) => this.rest(provider, ''))
    for (const provider of this.#passes) if (!resting.includes(provider)) this.takePass(provider)
    if (resting.join() === this.#resting) return
    this.#resting = resting.join()
    this.#onChange()
  }
}

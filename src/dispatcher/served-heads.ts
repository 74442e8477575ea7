import type { ProviderName } from '../model/thread.ts'
import type { Lanes } from './lanes.ts'

export type ServedHeadsOptions = {
  providers: readonly ProviderName[]
  defaultProvider: ProviderName
  lanes: Lanes
}

/** Which heads a round looks for. */
export type Choice = {
  /** As heads name them: '' stands for threads that name none, which our default serves. */
  providers: string[]
  /** Most that it claims. */
  most: number
  isProbe: boolean
}

/** Whose heads a dispatcher looks for: all that it has settings for, but none whose key rests. */
export class ServedHeads {
  readonly #options: ServedHeadsOptions

  constructor(options: ServedHeadsOptions) {
    this.#options = options
  }

  /** For a round with `free` slots. Now and then it is a single head of a key that rests, to try it. */
  async next(free: number): Promise<Choice> {
    const { lanes, providers } = this.#options
    const probed =
      free > 0 && lanes.isProbeDue
        ? await lanes.takeProbe((provider) => this.#named([provider]))
        : undefined
    if (probed) return { providers: this.#named([probed]), most: 1, isProbe: true }
    const awake = providers.filter((provider) => lanes.rest(provider, '') === null)
    return { providers: this.#named(awake), most: awake.length > 0 ? free : 0, isProbe: false }
  }

  #named(providers: readonly ProviderName[]): string[] {
    return providers.includes(this.#options.defaultProvider) ? ['', ...providers] : [...providers]
  }
}

/** A sleep that anybody can cut short; a wake-up that comes before the sleep is not lost. */
export class WakeUp {
  #woken = false
  #resolve: (() => void) | undefined

  wake(): void {
    this.#woken = true
    this.#resolve?.()
  }

  /** Resolves when woken, or after `ms` milliseconds: then to false. */
  async sleep(ms: number): Promise<boolean> {
    if (!this.#woken) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#resolve = resolve
      const timer = setTimeout(resolve, ms)
      await promise
      clearTimeout(timer)
      this.#resolve = undefined
    }
    const woken = this.#woken
    this.#woken = false
    return woken
  }
}

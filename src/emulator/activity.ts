/** Measures how long at least one run was being worked on. */
export class Activity {
  #open = 0
  #since = 0
  #busyMs = 0

  started(): void {
    if (this.#open++ === 0) this.#since = performance.now()
  }

  ended(): void {
    if (--this.#open === 0) this.#busyMs += performance.now() - this.#since
  }

  /** Union of the working intervals of all runs, in milliseconds; waiting for tool outputs is not work. */
  get busyMs(): number {
    return this.#busyMs + (this.#open > 0 ? performance.now() - this.#since : 0)
  }
}

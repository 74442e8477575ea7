/** Barks once when a deadline passes that nobody has moved, measured by the monotonic clock. */
export class Watchdog {
  readonly #onOver: () => void
  #deadline = 0
  #timer: NodeJS.Timeout | undefined

  constructor(onOver: () => void) {
    this.#onOver = onOver
  }

  /** Looks at the clock itself: after a pause of the process other callbacks may come before any timer. */
  get isOver(): boolean {
    return performance.now() >= this.#deadline
  }

  /** `deadline` as performance.now() has it. */
  moveTo(deadline: number): void {
    this.#deadline = deadline
    clearTimeout(this.#timer)
    this.#timer = setTimeout(this.#onOver, deadline - performance.now())
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}

/** A claim by its fence. */
export type ClaimKey = { id: number; attempts: number }

/**
 * Tells which claims a dispatcher holds without knowing and will never hear of, because the answer that
 * said so was lost: those that it still does not know of when every round is over that was under way
 * when they were seen. No clock is asked.
 */
export class UnheardClaims {
  readonly #underWay = new Set<number>()
  #rounds = 0
  #seen: readonly ClaimKey[] = []
  #roundsThen = 0

  /** A round begins that may claim. Returns what to call when its answer was taken in, or none will come. */
  begin(): () => void {
    const round = ++this.#rounds
    this.#underWay.add(round)
    return () => void this.#underWay.delete(round)
  }

  /** What the database shows as held here and nobody here knows of. */
  saw(claims: readonly ClaimKey[]): void {
    this.#seen = claims
    this.#roundsThen = this.#rounds
  }

  /** Those seen last that are lost for certain; `held` is what is known to be held now. */
  lost(held: readonly number[]): ClaimKey[] {
    if ([...this.#underWay].some((round) => round <= this.#roundsThen)) return []
    const known = new Set(held)
    return this.#seen.filter(({ id }) => !known.has(id))
  }
}

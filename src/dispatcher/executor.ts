import type { Outcome } from '../model/outcome.ts'
import type { Claim } from './dispatcher.ts'

/** Executes a claimed operation. Null: no outcome may be recorded, the claim is left as it is. Never rejects. */
export type Execute = (claim: Claim) => Promise<Outcome | null>

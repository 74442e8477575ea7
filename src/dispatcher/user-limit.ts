import type pg from 'pg'
import { NotYet } from '../operations/waiting.ts'
import { enterUser } from '../store/users.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { Claim } from './held-claims.ts'
import { fullPauseMs } from './lane-visit.ts'

/** Before a run is started: throws NotYet where its user has as many going on as there may be. */
export async function requireUserRoom(
  { operation, dispatcherId, signal }: Claim,
  pool: pg.Pool,
  maxRuns: number | undefined,
): Promise<void> {
  const { id, attempts, user_id } = operation
  if (maxRuns === undefined || user_id === null) return
  const fence = { dispatcherId, id, attempts }
  if (await whileLocked(signal, () => enterUser(pool, fence, user_id, maxRuns))) return
  const message = `As many runs of its user are going on as there may be: ${maxRuns}.`
  throw new NotYet({ code: 'user_full', message }, fullPauseMs(operation))
}

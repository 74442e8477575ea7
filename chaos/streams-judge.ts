import type pg from 'pg'
import { readLoggedEvents } from '../src/store/streams.ts'
import type { Judged } from './history.ts'
import { type Offender, offender } from './offender.ts'

/**
 * What was streamed of an answer is how it begins. It need not be all of it: while the database was away,
 * nothing could be written down.
 */
export async function brokenStreams(
  pool: pg.Pool,
  operations: readonly Judged[],
): Promise<Offender[]> {
  const found: Offender[] = []
  for (const { id, thread_id, status, result } of operations) {
    const text = result?.text
    if (status !== 'completed' || typeof text !== 'string') continue
    const events = await readLoggedEvents(pool, id)
    const begun = events.findLastIndex(({ type }) => /^(run_started|restarted)$/.test(type))
    const said = events
      .slice(begun + 1)
      .flatMap((event) => (event.type === 'text' ? [event.delta] : []))
      .join('')
    if (!text.startsWith(said))
      found.push(offender('stream', thread_id, [id], `streamed ${said}, said ${text}`))
  }
  return found
}

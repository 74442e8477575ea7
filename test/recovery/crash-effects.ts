import type pg from 'pg'
import type { ProviderName } from '../../src/model/thread.ts'
import type { CrashFleet } from './crash-fleet.ts'
import { earlier, followUp, type Scenario } from './crash-scenarios.ts'

/** What came of a thread. */
export type Effects = {
  thread: string
  /** Of its operations, by turn. */
  statuses: string[]
  /** What the provider holds, as `role: text`. */
  history: string[]
  metadata: Record<string, string>
}

export async function effectsOn(
  thread: string,
  provider: ProviderName,
  { fleet, pool }: { fleet: CrashFleet; pool: pg.Pool },
): Promise<Effects> {
  const { rows } = await pool.query(
    `select array_agg(o.status order by o.turn) filter (where o.turn is not null) as statuses, t.provider_thread_id
       from thread_operations o join threads t on t.id = o.thread_id
      where t.id = $1 group by t.id`,
    [thread],
  )
  const { statuses, provider_thread_id: id } = rows[0]
  const { url, history } = fleet.emulators[provider]
  const path = provider === 'responses' ? 'conversations' : 'threads'
  const held = await fetch(`${url}/${path}/${id}`, {
    headers: { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' },
  })
  const { metadata } = (await held.json()) as { metadata: Record<string, string> }
  // Each provider has tools of its own.
  const said = history(id).map(({ role, text }) =>
    `${role}: ${text}`.replace(/(responses|assistants)_/g, ''),
  )
  return { thread, statuses, history: said, metadata }
}

/** Each effect once and in turn. */
export function promisedEffects(thread: string, scenario: Scenario): Effects {
  const before = scenario.continued ? [earlier] : []
  return {
    thread,
    statuses: [...before.map(() => 'completed'), scenario.status, 'completed'],
    history: [...before, scenario, followUp].flatMap(({ adds }) => adds),
    metadata: scenario.metadata ?? {},
  }
}

import type pg from 'pg'
import { onTestFinished } from 'vitest'
import { type Running, start } from '../cli/cli.ts'
import { type Relay, startRelay } from '../provider/relay.ts'
import { waitFor } from '../support/wait-for.ts'

/** A real process of `inturn dispatch` with all defaults. */
export type DispatcherProcess = Running & {
  /** The provider as this process sees it: all that it asks passes here. */
  relay: Relay
  /** Its first id. */
  id: string
}

/** Starts one that serves threads of Assistants, whose streams break: it follows runs by looking at them. */
export async function startProcess(
  databaseUrl: string,
  emulatorUrl: string,
  args: readonly string[] = [],
): Promise<DispatcherProcess> {
  const relay = await startRelay(emulatorUrl)
  onTestFinished(() => relay.close())
  relay.loseFrom = ({ method, path }) =>
    method === 'POST' && /\/runs$/.test(path) ? 'event: thread.run.in_progress' : undefined
  const env = {
    OPENAI_API_KEY: 'any',
    OPENAI_BASE_URL: relay.url,
    INTURN_PROVIDER: 'assistants',
  }
  const running = start(['dispatch', ...args], { databaseUrl, env })
  const [line] = await running.printed(/.*dispatcher started.*/)
  return { ...running, relay, id: JSON.parse(line).dispatcher }
}

/** Everybody on the list has beaten, so that others have seen it. */
export const untilSeen = (pool: pg.Pool, id: string) =>
  waitFor(async () => {
    const { rows } = await pool.query('select direct from dispatchers where id = $1', [id])
    return rows[0]?.direct === true
  })

/** A pool, or a connection of its own. */
type Queried = pg.Pool | pg.ClientBase

/** Its beat has changed, and once more: the second one was sent after this was called. */
export async function untilBeatenTwice(pool: Queried, id: string): Promise<void> {
  for (let n = 0; n < 2; n++) await untilBeaten(pool, id)
}

export async function untilBeaten(pool: Queried, id: string): Promise<void> {
  const beat = async () =>
    (await pool.query('select beat_at::text from dispatchers where id = $1', [id])).rows[0]?.beat_at
  const before = await beat()
  await waitFor(async () => (await beat()) !== before, { message: `a beat of ${id}` })
}

import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { migrate } from '../src/client/migrate.ts'
import { createPool } from '../src/db/pool.ts'
import { type Emulator, startEmulator } from '../src/emulator/index.ts'
import { waitFor } from '../test/support/wait-for.ts'
import { ChaosDatabase } from './database.ts'
import { Deaths } from './deaths.ts'
import { keepEvidence } from './evidence.ts'
import { Fleet } from './fleet.ts'
import { judge } from './judge.ts'
import { type Plan, planOf } from './plan.ts'
import type { Result } from './report.ts'
import type { Scale } from './scale.ts'
import { Stage } from './stage.ts'
import { submitOutputs } from './submitters.ts'

const tools = fileURLToPath(new URL('tools.ts', import.meta.url))

export type ChaosOptions = {
  seed: number
  /** How long faults and disturbances go on; what is left is then drained in peace. */
  seconds: number
  scale: Scale
  /** Leaves the database and the dispatchers' logs behind, also where nothing is wrong. Default false. */
  keep?: boolean
  /** Calls everything off; all is cleaned up all the same. */
  signal: AbortSignal
  onProgress?: (text: string) => void
}

/** One run, from an empty database to the verdict. The folder is kept where something was wrong. */
export async function runChaos(options: ChaosOptions): Promise<Result> {
  const { seed, seconds, scale, signal, onProgress = () => {} } = options
  const plan = planOf(seed, seconds, scale)
  const database = await ChaosDatabase.start({ max_connections: '70' })
  const emulator = await startEmulator({ latency: scale.latency })
  const pool = createPool(database.url, { applicationName: 'chaos', max: 5 })
  const deaths = new Deaths(pool)
  let fleet: Fleet | undefined
  let keep = true
  try {
    await prepare(database.url, plan)
    fleet = new Fleet({
      size: scale.dispatchers,
      settings: { ...scale.settings, openaiApiKey: 'chaos', openaiBaseUrl: emulator.url, tools },
      databaseUrl: database.url,
      folder: database.folder,
      onGone: (pid, how) => deaths.note(pid, how),
    })
    const stage = new Stage({ plan, scale, signal, database, emulator, fleet, pool, seed })
    onProgress(`${seconds} s of chaos`)
    const submitting = new AbortController()
    const submitted = submitOutputs(pool, 2_000 * scale.pace, submitting.signal)
    const { drainedMs, resumed } = await (async () => {
      await stage.perform()
      onProgress('calm; the lines are drained')
      return drain(pool, scale, signal)
    })().finally(() => submitting.abort())
    await submitted
    await allAnswered(emulator, scale, signal)
    const { sent, held } = stage
    const { operations, generations, offenders } = await judge({ pool, emulator, sent, held })
    const recoveries = await deaths.recoveries()
    keep = options.keep === true || offenders.length > 0
    if (keep) await keepEvidence(database.folder, pool, emulator, offenders)
    const { counts } = fleet
    await fleet.end(30_000)
    return {
      seed,
      operations,
      generations,
      offenders,
      recoveries,
      drainedMs,
      counts: {
        ...counts,
        ...stage.counts,
        holds: held.length,
        restarts: database.restarts,
        resumed,
      },
      conflicts: emulator.conflicts(),
      faults: emulator.stats.faults,
      folder: keep ? database.folder : null,
    }
  } catch (error) {
    if (!signal.aborted) onProgress(`it broke off; what there is remains in ${database.folder}`)
    throw error
  } finally {
    await fleet?.end(0)
    await pool.end()
    await emulator.close()
    await database.stop({ keep: keep && !signal.aborted })
  }
}

async function prepare(databaseUrl: string, { threads }: Plan): Promise<void> {
  await migrate({ databaseUrl })
  const pool = createPool(databaseUrl, { max: 1 })
  try {
    await pool.query("insert into assistants (id, model) values ('asst_chaos', 'gpt-4o')")
    await pool.query(`
      insert into thread_policies (name, max_messages, carry_over, delete_rotated, idle_ttl)
      values ('rotates', 8, 2, false, null), ('leaves nothing', 12, 1, true, null), ('expires', null, 0, false, '1 second')`)
    await pool.query(
      'insert into threads (id, provider, policy) select * from unnest($1::text[], $2::text[], $3::text[])',
      [
        threads.map(({ id }) => id),
        threads.map(({ provider }) => provider),
        threads.map(({ policy }) => policy),
      ],
    )
  } finally {
    await pool.end()
  }
}

/**
 * Waits until every operation is final, with an operator who resumes what is held for one; gives up after
 * a while, which the judge will notice.
 */
async function drain(
  pool: ReturnType<typeof createPool>,
  { drainMs }: Scale,
  signal: AbortSignal,
): Promise<{ drainedMs: number; resumed: number }> {
  const startedAt = performance.now()
  let resumed = 0
  const left = async () => {
    signal.throwIfAborted()
    await sleep(100)
    const held = await pool.query(
      'select resume_thread(thread_id) from thread_operations where ready_at = never()',
    )
    resumed += held.rows.length
    const { rows } = await pool.query(
      'select count(*) as left from thread_operations where finished_at is null',
    )
    return rows[0].left === 0
  }
  await waitFor(left, { timeoutMs: drainMs }).catch(() => signal.throwIfAborted())
  return { drainedMs: performance.now() - startedAt, resumed }
}

/** Also of those whose caller has left: what they do, they may do late. */
async function allAnswered(
  emulator: Emulator,
  { callTimeoutMs }: Scale,
  signal: AbortSignal,
): Promise<void> {
  const open = () => emulator.requests().some(({ answer }) => answer === 'open')
  await waitFor(
    () => {
      signal.throwIfAborted()
      return !open()
    },
    { timeoutMs: 2 * callTimeoutMs },
  ).catch(() => signal.throwIfAborted())
}

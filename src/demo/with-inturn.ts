import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { createPool } from '../db/pool.ts'
import { queryOn } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import { isFinal } from '../model/operation.ts'
import type { ProviderName } from '../model/thread.ts'
import { type OperationRecord, readThreadOperations } from '../store/thread-views.ts'
import { everyWorker, type Half, type HalfOptions, isInOrder, userTexts } from './half.ts'

/** Longest time without any progress, in milliseconds. */
const patienceMs = 20_000

const insert = `insert into thread_operations (thread_id, operation, data) values ($1, $2, $3)`

const runOf: Record<ProviderName, object> = {
  assistants: { assistant_id: 'asst_demo' },
  responses: { model: 'gpt-4o' },
}

/** The same workers only insert rows; dispatchers that run elsewhere execute them. */
export async function withInturn(options: HalfOptions & { databaseUrl: string }): Promise<Half> {
  const { provider, emulator, workers, iterations, databaseUrl } = options
  const thread = `demo:${provider}`
  const pool = createPool(databaseUrl, { max: workers, applicationName: 'inturn demo worker' })
  try {
    const created = await createThread(pool, thread, options)
    const startedAt = performance.now()
    await everyWorker(options, async (_worker, text) => {
      const data = { message: text, ...runOf[provider] }
      await pool.query(insert, [thread, 'add_message_and_run', data])
    })
    const all = await untilFinal(pool, thread, 1 + workers * iterations, options)
    const wallMs = performance.now() - startedAt
    const history = emulator.history(created.result?.provider_thread_id ?? '')
    const line = all.slice(1).map(({ data }) => data.message)
    return {
      gotThrough: all.slice(1).filter(({ status }) => status === 'completed').length,
      of: workers * iterations,
      conflicts: emulator.stats.conflicts,
      inOrder:
        isInOrder(history, options) && userTexts(history).every((text, i) => text === line[i]),
      wallMs,
      busyMs: emulator.stats.busyMs,
    }
  } finally {
    await pool.end()
  }
}

/** Before the clock runs: the thread of the other half is there already, too. */
async function createThread(
  pool: pg.Pool,
  thread: string,
  options: HalfOptions,
): Promise<OperationRecord> {
  await pool.query(insert, [thread, 'create_thread', { provider: options.provider }])
  const [created] = await untilFinal(pool, thread, 1, { ...options, onProgress: () => {} })
  if (created?.status !== 'completed') {
    throw new InturnError('demo_failed', `No thread could be created: ${created?.error?.message}`)
  }
  return created
}

/** All operations of the thread by turn once `count` are final, or as they are when nothing moves. */
async function untilFinal(
  pool: pg.Pool,
  thread: string,
  count: number,
  { signal, onProgress }: HalfOptions,
): Promise<OperationRecord[]> {
  let done = 0
  let movedAt = performance.now()
  for (;;) {
    const database = { query: queryOn(pool), schema: 'public' }
    const all = (await readThreadOperations(database, thread, count)).reverse()
    const final = all.filter(({ status }) => isFinal(status)).length
    if (final !== done) movedAt = performance.now()
    done = final
    onProgress(Math.max(0, done - 1))
    if (done === count || performance.now() - movedAt > patienceMs) return all
    await sleep(50, undefined, { signal })
  }
}

import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { type Emulator, type EmulatorOptions, startEmulator } from '../../src/emulator/index.ts'
import type { ProviderName } from '../../src/model/thread.ts'
import { type Running, start } from '../cli/cli.ts'
import { Line, startLine, who } from '../operations/line.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

async function emulate(pool: pg.Pool, options: EmulatorOptions = {}): Promise<Emulator> {
  const emulator = await startEmulator({
    latency: { queuedMs: 0, thinkMs: 0, perTokenMs: 0 },
    ...options,
  })
  onTestFinished(() => emulator.close())
  await pool.query(`insert into assistants (id, model) values ($1, 'gpt-4o')`, [who.assistant_id])
  return emulator
}

/** `inturn dispatch` with a short lease, once it serves. */
async function dispatch(
  databaseUrl: string,
  emulator: Emulator,
  name: ProviderName,
  key = 'any',
): Promise<Running> {
  const times = { INTURN_HEARTBEAT_MS: '100', INTURN_GRACE_MS: '500', INTURN_LEASE_MS: '800' }
  const provider = { OPENAI_API_KEY: key, OPENAI_BASE_URL: emulator.url, INTURN_PROVIDER: name }
  const running = start(['dispatch'], { databaseUrl, env: { ...times, ...provider } })
  await running.printed(/dispatcher started/)
  return running
}

const insert = async (pool: pg.Pool, thread: string, message: string): Promise<number> => {
  const { rows } = await pool.query(
    `insert into thread_operations (thread_id, operation, data) values ($1, 'add_message_and_run', $2) returning id`,
    [thread, { message: `reply with exactly: ${message}`, ...who }],
  )
  return rows[0].id
}

const isOver = async (pool: pg.Pool) =>
  (await pool.query('select from thread_operations where finished_at is null')).rowCount === 0

async function historyOf(pool: pg.Pool, emulator: Emulator, thread: string) {
  const { rows } = await pool.query('select provider_thread_id from threads where id = $1', [
    thread,
  ])
  const id = rows[0].provider_thread_id
  return { id, said: emulator.history(id).map(({ role, text }) => `${role}: ${text}`) }
}

const turnsOf = (...answers: string[]) =>
  answers.flatMap((text) => [`user: reply with exactly: ${text}`, `assistant: ${text}`])

describe.each(['responses', 'assistants'] as const)('on "%s"', (name) => {
  test('a run whose dispatcher was killed is followed by the next, and blocks nothing', async ({
    pool,
    url,
  }) => {
    const answer = Promise.withResolvers<void>()
    const emulator = await emulate(pool, {
      model: async ({ history }) => {
        await answer.promise
        const last = history.at(-1)
        return { text: last?.role === 'user' ? (last.text.split(': ').at(-1) ?? '') : '' }
      },
    })
    const killed = await dispatch(url, emulator, name)
    const id = await insert(pool, 't', 'one')
    await insert(pool, 't', 'two')
    await waitFor(
      async () =>
        (await pool.query(`select from thread_operations where progress ? 'run_id'`)).rowCount ===
        1,
    )
    killed.child.kill('SIGKILL')
    expect(await killed.ended).toBe('SIGKILL')
    await dispatch(url, emulator, name)
    await waitFor(
      async () =>
        (await pool.query('select attempts from thread_operations where id = $1', [id])).rows[0]
          .attempts === 2,
    )
    answer.resolve()
    await waitFor(() => isOver(pool))
    const { id: threadId, said } = await historyOf(pool, emulator, 't')
    expect(said).toEqual(turnsOf('one', 'two'))
    expect(emulator.runs(threadId).map(({ status }) => status)).toEqual(['completed', 'completed'])
    expect(emulator.conflicts()).toEqual([])
    await expectHealthy(pool)
  })

  test('a run that ended while nobody was there is settled, not asked for again', async ({
    pool,
    url,
  }) => {
    const emulator = await emulate(pool, { latency: { queuedMs: 0, thinkMs: 500, perTokenMs: 0 } })
    const killed = await dispatch(url, emulator, name)
    await insert(pool, 't', 'one')
    await waitFor(
      async () =>
        (await pool.query(`select from thread_operations where progress ? 'run_id'`)).rowCount ===
        1,
    )
    killed.child.kill('SIGKILL')
    await killed.ended
    await waitFor(() => emulator.runs().every(({ endedAt }) => endedAt !== null))
    await insert(pool, 't', 'two')
    await dispatch(url, emulator, name)
    await waitFor(() => isOver(pool))
    const { id, said } = await historyOf(pool, emulator, 't')
    expect(said).toEqual(turnsOf('one', 'two'))
    expect(emulator.runs(id)).toHaveLength(2)
    expect(emulator.conflicts()).toEqual([])
    await expectHealthy(pool)
  })

  test('what was taken over comes before all behind it, and who held it sends nothing more', async ({
    pool,
    url,
  }) => {
    const [asked, mayAnswer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const emulator = await emulate(pool, {
      onRequest: async () => {
        asked.resolve()
        await mayAnswer.promise
        return undefined
      },
    })
    const paused = await dispatch(url, emulator, name, 'paused')
    await insert(pool, 't', 'one')
    await asked.promise
    paused.child.kill('SIGSTOP')
    mayAnswer.resolve()
    await insert(pool, 't', 'two')
    await dispatch(url, emulator, name, 'other')
    await waitFor(() => isOver(pool))

    const since = new Date()
    paused.child.kill('SIGCONT')
    await paused.printed(/goes on under a new id/)
    expect(emulator.requests({ key: 'paused', since })).toEqual([])
    await insert(pool, 't', 'three')
    await waitFor(() => isOver(pool))
    const { id, said } = await historyOf(pool, emulator, 't')
    expect(said).toEqual(turnsOf('one', 'two', 'three'))
    expect(emulator.runs(id)).toHaveLength(3)
    await expectHealthy(pool)
  })

  test('each of many users is answered in the order in which he wrote, by several dispatchers', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const other = new Line(pool, name, line.emulator, line.relay, {})
    await other.dispatcher.start()
    onTestFinished(() => other.dispatcher.stop())
    const users = Array.from({ length: 12 }, (_, i) => `user:${i}`)
    const words = ['one', 'two', 'three', 'four', 'five']
    for (const word of words) await Promise.all(users.map((user) => insert(pool, user, word)))
    await waitFor(() => isOver(pool))
    for (const user of users) {
      expect((await historyOf(pool, line.emulator, user)).said).toEqual(turnsOf(...words))
    }
    expect(line.emulator.conflicts()).toEqual([])
    await expectHealthy(pool)
  })
})

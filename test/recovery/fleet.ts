import type pg from 'pg'
import pino from 'pino'
import { expect, onTestFinished } from 'vitest'
import { loadConfig } from '../../src/config.ts'
import { startDispatcher } from '../../src/dispatcher/start.ts'
import { type Emulator, type EmulatorOptions, startEmulator } from '../../src/emulator/index.ts'
import type { ProviderName } from '../../src/model/thread.ts'
import { expectHealthy } from '../support/healthy.ts'
import { waitFor } from '../support/wait-for.ts'

/** The operations whose effects can be told apart. */
export type Said = 'add_message' | 'create_run' | 'add_message_and_run'

const who = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }

export type FleetOptions = {
  databaseUrl: string
  /** For the test's own questions. */
  pool: pg.Pool
  /** Default 2. */
  dispatchers?: number
  emulator?: EmulatorOptions
  /** In milliseconds; default 1,500. */
  leaseMs?: number
  /** In milliseconds; default 1,000. */
  callTimeoutMs?: number
  /** In milliseconds; default 100. */
  settleMs?: number
  /** In milliseconds; default 60,000. */
  runTimeoutMs?: number
  /** Default false: nothing expires. */
  sweeps?: boolean
  /** The test's own, where several run at once; default: that of the one that runs. */
  onFinished?: (cleanUp: () => Promise<void>) => void
}

/** Dispatchers as `inturn dispatch` runs them, with short times, that serve threads of both providers from an emulator. */
export class Fleet {
  readonly emulator: Emulator
  readonly log: Array<Record<string, unknown>> = []
  readonly #pool: pg.Pool
  #inserted = 0

  private constructor(pool: pg.Pool, emulator: Emulator) {
    this.#pool = pool
    this.emulator = emulator
  }

  static async start(options: FleetOptions): Promise<Fleet> {
    const { pool, databaseUrl, dispatchers = 2 } = options
    const { leaseMs = 1_500, callTimeoutMs = 1_000, settleMs = 100 } = options
    const { runTimeoutMs = 60_000, sweeps = false, onFinished = onTestFinished } = options
    const latency = { queuedMs: 0, thinkMs: 0, perTokenMs: 0 }
    const emulator = await startEmulator({ latency, ...options.emulator })
    onFinished(() => emulator.close())
    const fleet = new Fleet(pool, emulator)
    await pool.query(`insert into assistants (id, model) values ($1, 'gpt-4o')`, [who.assistant_id])
    const flags = { databaseUrl, leaseMs, callTimeoutMs, heartbeatMs: 100, pollMs: 20, sweepMs: 50 }
    const retries = { maxAttempts: 100, retryBaseMs: 10, retryMaxMs: 500, laneProbeMs: 200 }
    const config = loadConfig(
      {
        ...flags,
        ...retries,
        runTimeoutMs,
        sweeps,
        shutdownMs: 500,
        concurrency: 10,
        openaiApiKey: 'any',
      },
      {},
      ['databaseUrl'],
    )
    const provider = { apiKey: 'any', baseUrl: emulator.url, settleMs, pollMs: 10 }
    const providers = { responses: provider, assistants: provider }
    for (let i = 0; i < dispatchers; i++) {
      const log = pino(
        { level: 'debug' },
        { write: (line) => void fleet.log.push(JSON.parse(line)) },
      )
      const running = await startDispatcher({ ...config, providers }, log)
      onFinished(() => running.stop())
    }
    return fleet
  }

  get messages(): string[] {
    return this.log.map(({ msg }) => String(msg))
  }

  /** Puts the next operation into the line of `thread`; its text says which one it is. */
  async say(thread: string, operation: Said): Promise<void> {
    const n = ++this.#inserted
    const data = {
      add_message: { message: `reply with exactly: answer ${n}` },
      create_run: who,
      add_message_and_run: { message: `reply with exactly: answer ${n}`, ...who },
    }[operation]
    await this.#pool.query(
      'insert into thread_operations (thread_id, operation, data) values ($1, $2, $3)',
      [thread, operation, data],
    )
  }

  /** Puts `count` operations into the line of `thread`, a third of them without a run. */
  async insert(thread: string, count = 1): Promise<void> {
    for (let i = 0; i < count; i++)
      await this.say(thread, this.#inserted % 3 === 2 ? 'add_message' : 'add_message_and_run')
  }

  /** Threads whose names begin with their provider; half of them on each. */
  async open(count: number, name = 'first'): Promise<string[]> {
    const threads = Array.from(
      { length: count },
      (_, i) => `${i % 2 === 0 ? 'responses' : 'assistants'}:${name} ${i}`,
    )
    await this.#create(threads)
    return threads
  }

  /** A thread for each of these providers, and its id there. */
  async openEach(providers: readonly ProviderName[]) {
    const threads = providers.map((provider, i) => `${provider}:${i}`)
    await this.#create(threads)
    const { rows } = await this.#pool.query('select id, provider_thread_id from threads')
    const idOf = new Map<string, string>(rows.map((row) => [row.id, row.provider_thread_id]))
    return threads.map((thread) => ({ thread, providerThreadId: idOf.get(thread) as string }))
  }

  /** Returns when they are there. */
  async #create(threads: readonly string[]): Promise<void> {
    await this.#pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select thread, 'create_thread', jsonb_build_object('provider', split_part(thread, ':', 1))
         from unnest($1::text[]) as t (thread)`,
      [threads],
    )
    await waitFor(async () => {
      const { rows } = await this.#pool.query(
        'select count(provider_thread_id)::int as count from threads where id = any ($1)',
        [threads],
      )
      return rows[0].count === threads.length
    })
  }

  async finished(): Promise<number> {
    const { rows } = await this.#pool.query(
      'select count(*)::int as count from thread_operations where finished_at is not null',
    )
    return rows[0].count
  }

  async isOver(timeoutMs = 15_000): Promise<void> {
    await waitFor(
      async () =>
        (await this.#pool.query('select from thread_operations where finished_at is null'))
          .rowCount === 0,
      { timeoutMs, message: 'every operation is final' },
    )
  }

  /** Every operation had exactly one effect, in order; the doctor finds nothing. */
  async expectOneEffectEach(): Promise<void> {
    const { rows } = await this.#pool.query(
      `select o.id, o.thread_id, o.operation, o.data ->> 'message' as text, o.status, o.error, t.provider_thread_id
         from thread_operations o join threads t on t.id = o.thread_id order by o.id`,
    )
    expect(rows.filter(({ status }) => status !== 'completed')).toEqual([])
    for (const [thread, operations] of Map.groupBy(rows, (row) => row.thread_id as string)) {
      const id = operations[0]?.provider_thread_id
      const said = this.emulator.history(id).map(({ role, text }) => `${role}: ${text}`)
      expect(said, `what ${thread} holds at the provider`).toEqual(promised(operations))
      const tags = this.emulator
        .runs(id)
        .filter(({ status }) => status === 'completed')
        .map(({ metadata }) => metadata.inturn_operation)
      const runs = operations.filter(({ operation }) => operation.endsWith('run'))
      expect(tags, `completed runs of ${thread}`).toEqual(runs.map((row) => String(row.id)))
    }
    const unexplained = this.emulator
      .conflicts()
      .filter(({ cause, resent, probe }) => cause === 'own_run' && !resent && !probe)
    expect(unexplained).toEqual([])
    await expectHealthy(this.#pool)
  }
}

/** What these operations of one thread leave behind, each once. */
function promised(operations: ReadonlyArray<{ operation: string; text: string | null }>): string[] {
  let asked = ''
  return operations.flatMap(({ operation, text }) => {
    asked = text ?? asked
    return [
      ...(text === null ? [] : [`user: ${text}`]),
      ...(operation.endsWith('run') ? [`assistant: ${asked.split(': ')[1]}`] : []),
    ]
  })
}

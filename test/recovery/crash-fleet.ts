import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type pg from 'pg'
import { loadConfig } from '../../src/config.ts'
import { type RunningDispatcher, startDispatcher } from '../../src/dispatcher/start.ts'
import { defaultModel, type Emulator, startEmulator } from '../../src/emulator/index.ts'
import { createLogger } from '../../src/log.ts'
import type { OnPoint } from '../../src/model/point.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { waitFor } from '../support/wait-for.ts'
import { earlier, failsOnce, followUp, type Scenario } from './crash-scenarios.ts'
import type { Crash, Orders } from './crashing-dispatcher.ts'

const crashingDispatcher = fileURLToPath(new URL('crashing-dispatcher.ts', import.meta.url))

/** Tools that every dispatcher has. */
const rain = fileURLToPath(new URL('tools/rain.ts', import.meta.url))

/** Name of the database sessions of those that crash, one of each provider at a time. */
const sessionsOf = (provider: ProviderName) => `crashing dispatcher of ${provider}`

export type CrashFleetOptions = {
  url: string
  pool: pg.Pool
  /** After a call of unknown outcome nobody goes on before this. */
  callTimeoutMs: number
}

/** Two providers with an emulator each, one database, and dispatchers that die when told to. */
export class CrashFleet {
  readonly #url: string
  readonly #pool: pg.Pool
  readonly #children = new Set<ChildProcess>()
  readonly #cache = mkdtempSync(join(tmpdir(), 'inturn-crashes-'))
  readonly emulators: Record<ProviderName, Emulator>
  readonly #callTimeoutMs: number
  #closed = false
  #thinking: Promise<void> = Promise.resolve()

  private constructor(
    { url, pool, callTimeoutMs }: CrashFleetOptions,
    emulators: Record<ProviderName, Emulator>,
  ) {
    this.#url = url
    this.#pool = pool
    this.#callTimeoutMs = callTimeoutMs
    this.emulators = emulators
  }

  static async start(options: CrashFleetOptions): Promise<CrashFleet> {
    const failed = new Set<string>()
    const start = () =>
      startEmulator({
        latency: { queuedMs: 0, thinkMs: 2, perTokenMs: 0 },
        model: async (request) => {
          await fleet.#thinking
          return defaultModel(request)
        },
        failRun: ({ model, metadata: { inturn_operation: id = '' } }) => {
          if (model !== failsOnce || failed.has(id)) return null
          failed.add(id)
          return { code: 'server_error', message: 'Sorry.' }
        },
      })
    const emulators = { responses: await start(), assistants: await start() }
    const fleet: CrashFleet = new CrashFleet(options, emulators)
    await options.pool.query(
      "insert into assistants (id, model) values ('asst_abcdefghijklmnopqrstuvwx', 'gpt-4o')",
    )
    return fleet
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#children].map((child) => this.kill(child)))
    await Promise.all(providerNames.map((name) => this.emulators[name].close()))
    await rm(this.#cache, { recursive: true, force: true })
  }

  /** Until the returned function is called, no run comes to an end. */
  keepThinking(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#thinking = promise
    return resolve
  }

  /** A dispatcher of both providers, in this process, that finds the dead ones soon. */
  async survivor(onPoint?: OnPoint): Promise<RunningDispatcher> {
    // What counts is how long a silence the dead themselves had announced. This one, on a busy machine,
    // must not be taken for one of them.
    await this.#pool.query('update dispatchers set grace_ms = 400, lease_ms = 600')
    const settings = { ...this.#settings, heartbeatMs: 100, graceMs: 10_000, leaseMs: 20_000 }
    const config = loadConfig(settings, {}, ['databaseUrl', 'providers'])
    return startDispatcher(config, createLogger({ level: 'error' }), { onPoint })
  }

  /** A dispatcher of one provider, as a process. Others do not release what it held, so that each death stays one of its own. */
  dispatcher(provider: ProviderName, crash: Crash | null = null): ChildProcess {
    if (this.#closed) throw new Error('The fleet is closed.')
    const settings = { ...this.#settings, graceMs: 600_000, leaseMs: 600_000 }
    const url = new URL(this.#url)
    url.searchParams.set('application_name', sessionsOf(provider))
    const orders: Orders = { settings: { ...settings, databaseUrl: url.href }, provider, crash }
    const child = spawn(process.execPath, [crashingDispatcher, JSON.stringify(orders)], {
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: this.#cache, TOOLS_OF: provider },
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    this.#children.add(child)
    return child
  }

  /**
   * Resolves when a dispatcher of this provider has killed itself as told, or (to false) when the operation
   * was over without coming there: how often it waits on its way is a matter of time.
   */
  async crash(provider: ProviderName, crash: Crash): Promise<boolean> {
    const child = this.dispatcher(provider, crash)
    const reached = `operation ${crash.operationId} reaches ${crash.point} for the ${crash.occurrence}. time`
    const isDead = () => child.exitCode !== null || child.signalCode !== null
    await waitFor(isDead, { timeoutMs: 10_000 }).catch(() =>
      waitFor(async () => isDead() || (await this.#isFinal(crash.operationId)), {
        timeoutMs: 60_000,
        message: reached,
      }),
    )
    if (!isDead()) {
      await this.kill(child)
      return false
    }
    if (child.signalCode !== 'SIGKILL') throw new Error(`The dispatcher ended before ${reached}.`)
    // Its last statement may go on without it, and claim what is inserted next.
    const sessions = 'select from pg_stat_activity where application_name = $1'
    await waitFor(
      async () => (await this.#pool.query(sessions, [sessionsOf(provider)])).rowCount === 0,
      { message: `the sessions of a dead dispatcher of ${provider} are over` },
    )
    return true
  }

  async #isFinal(id: number): Promise<boolean> {
    const { rows } = await this.#pool.query(
      'select finished_at is not null as is_final from thread_operations where id = $1',
      [id],
    )
    return rows[0].is_final
  }

  async kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }

  /** Threads that go to this provider, with the turn that a scenario wants to have been there before. */
  async createThreads(
    provider: ProviderName,
    wanted: ReadonlyArray<{ thread: string; scenario: Scenario }>,
  ): Promise<void> {
    await this.#pool.query(
      'insert into threads (id, provider) select id, $1 from unnest($2::text[]) as t (id)',
      [provider, wanted.map(({ thread }) => thread)],
    )
    for (const { thread, scenario } of wanted) {
      if (scenario.continued) await this.#insert(thread, earlier)
    }
  }

  /** The scenario's operation, and one that waits behind it; returns the id of the first. */
  async insert(thread: string, scenario: Scenario): Promise<number> {
    const id = await this.#insert(thread, scenario)
    await this.#insert(thread, followUp)
    return id
  }

  async #insert(
    thread: string,
    { operation, data, merges = [] }: Pick<Scenario, 'operation' | 'data' | 'merges'>,
  ): Promise<number> {
    const { rows } = await this.#pool.query(
      `insert into thread_operations (thread_id, operation, data, if_busy)
       select $1, 'add_message', jsonb_build_object('message', message), null from unnest($2::text[]) as m (message)
       union all values ($1, $3, $4::jsonb, $5)
       returning id`,
      [thread, merges, operation, data, merges.length > 0 ? 'merge' : null],
    )
    return rows.at(-1).id
  }

  /** Everything that was inserted is over. */
  async drained(): Promise<void> {
    const unfinished = 'select from thread_operations where finished_at is null'
    await waitFor(async () => (await this.#pool.query(unfinished)).rowCount === 0, {
      timeoutMs: 60_000,
      message: 'every operation is final',
    })
  }

  get #settings(): Record<string, unknown> {
    return {
      databaseUrl: this.#url,
      openaiApiKey: 'any',
      openaiBaseUrl: this.emulators.responses.url,
      assistantsApiKey: 'any',
      assistantsBaseUrl: this.emulators.assistants.url,
      callTimeoutMs: this.#callTimeoutMs,
      settleMs: 300,
      assistantsSettleMs: 300,
      retryBaseMs: 20,
      tools: rain,
      concurrency: 50,
      pollMs: 20,
      sweepMs: 50,
      sweeps: false,
    }
  }
}

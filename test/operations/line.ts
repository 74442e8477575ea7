import type pg from 'pg'
import pino from 'pino'
import { onTestFinished } from 'vitest'
import { Dispatcher } from '../../src/dispatcher/dispatcher.ts'
import { createExecutor } from '../../src/dispatcher/executor.ts'
import { Lanes } from '../../src/dispatcher/lanes.ts'
import { StreamWriter } from '../../src/dispatcher/stream-writer.ts'
import { type Emulator, type EmulatorOptions, startEmulator } from '../../src/emulator/index.ts'
import { laneKey } from '../../src/model/lane.ts'
import type { OperationKind } from '../../src/model/operation.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import type { Tools } from '../../src/model/tool.ts'
import type { DeadlinePolicy } from '../../src/model/tool-deadline.ts'
import { createProviders } from '../../src/provider/registry.ts'
import { type Relay, startRelay } from '../provider/relay.ts'
import { waitFor } from '../support/wait-for.ts'

/** An operation as SQL users read it. */
export type Row = {
  id: number
  status: string
  turn: number
  attempts: number
  failures: number
  result: any
  error: any
  progress: any
  intent: unknown
}

export type LineOptions = {
  emulator?: EmulatorOptions
  /** Default 0: reads do not lag. */
  settleMs?: number
  maxAttempts?: number
  /** Default 1000. */
  callTimeoutMs?: number
  foreignRunMs?: number
  runTimeoutMs?: number
  /** Default: none. */
  tools?: Tools
  /** Default 60,000. */
  toolDeadlineMs?: number
  /** Default: answer. */
  onToolDeadline?: DeadlinePolicy
  /** Default: none. */
  holdUnknown?: readonly OperationKind[]
  /** Default: both. */
  providers?: readonly ProviderName[]
  logContent?: boolean
  /** Default false: nothing is written down of what runs say. */
  streams?: boolean
  /** In milliseconds; default an hour. */
  streamRetentionMs?: number
}

/** The least that says who is to answer, on both providers once the assistant has a row. */
export const who = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }

export const runsPath = /\/(runs|responses)(\?|$)/
export const messagesPath = /\/(messages|items)(\?|$)/

/** A dispatcher that serves a database's lines from an emulator, through a relay that can lose answers. */
export async function startLine(pool: pg.Pool, name: ProviderName, options: LineOptions = {}) {
  const emulator = await startEmulator({
    latency: { queuedMs: 0, thinkMs: 0, perTokenMs: 0 },
    ...options.emulator,
  })
  onTestFinished(() => emulator.close())
  const relay = await startRelay(emulator.url)
  onTestFinished(() => relay.close())
  await pool.query(
    `insert into assistants (id, model) values ($1, 'gpt-4o') on conflict (id) do nothing`,
    [who.assistant_id],
  )
  const line = new Line(pool, name, emulator, relay, options)
  await line.dispatcher.start()
  onTestFinished(() => line.dispatcher.stop())
  return line
}

export class Line {
  readonly #pool: pg.Pool
  readonly emulator: Emulator
  readonly relay: Relay
  readonly log: Array<Record<string, unknown>> = []
  readonly providers
  readonly dispatcher: Dispatcher

  constructor(
    pool: pg.Pool,
    name: ProviderName,
    emulator: Emulator,
    relay: Relay,
    options: LineOptions,
  ) {
    const { settleMs = 0, maxAttempts = 5, providers = providerNames, logContent } = options
    const { callTimeoutMs = 1_000, foreignRunMs = 60_000, runTimeoutMs = 60_000 } = options
    this.#pool = pool
    this.emulator = emulator
    this.relay = relay
    // A key of its own: lanes outlive a test.
    const apiKey = `key-${emulator.port}`
    const settings = { apiKey, baseUrl: relay.url, pollMs: 5, settleMs }
    this.providers = createProviders(
      Object.fromEntries(providers.map((provider) => [provider, settings])),
    )
    const log = pino({}, { write: (text) => void this.log.push(JSON.parse(text)) })
    const keys = Object.fromEntries(providers.map((provider) => [provider, laneKey(apiKey)]))
    const lanes = new Lanes({ pool, keys, probeMs: 100, log })
    this.dispatcher = new Dispatcher({
      pool,
      lanes,
      execute: createExecutor({
        pool,
        providers: this.providers,
        callTimeoutMs,
        foreignRunMs,
        runTimeoutMs,
        toolDeadlineMs: options.toolDeadlineMs ?? 60_000,
        onToolDeadline: options.onToolDeadline ?? 'answer',
        holdUnknown: options.holdUnknown ?? [],
        retry: { max_attempts: maxAttempts, base_ms: 10, max_ms: 50 },
        lanes,
        streams: options.streams ? new StreamWriter({ pool, log }) : undefined,
        log,
        logContent,
      }),
      concurrency: 5,
      tools: options.tools,
      providers,
      defaultProvider: name,
      pollMs: 10,
      heartbeatMs: 500,
      graceMs: 4_000,
      leaseMs: 5_000,
      sweepMs: 50,
      streamRetentionMs: options.streamRetentionMs,
      shutdownMs: 200,
      log,
    })
  }

  async insert(thread: string, operation: string, data: object): Promise<number> {
    const { rows } = await this.#pool.query(
      'insert into thread_operations (thread_id, operation, data) values ($1, $2, $3) returning id',
      [thread, operation, data],
    )
    return rows[0].id
  }

  async row(id: number): Promise<Row> {
    const { rows } = await this.#pool.query('select * from thread_operations where id = $1', [id])
    return rows[0]
  }

  /** The row once it is final. */
  async end(id: number): Promise<Row> {
    return waitFor(
      async () => {
        const row = await this.row(id)
        return /^(completed|failed|cancelled)$/.test(row.status) && row
      },
      { message: `operation ${id} ends` },
    )
  }

  /** The row once its attempt has ended with this error, waiting for the next. */
  async waiting(id: number, code: string): Promise<Row> {
    return waitFor(
      async () => {
        const row = await this.row(id)
        return row.error?.code === code && row
      },
      { message: `operation ${id} waits: ${code}` },
    )
  }

  async do(thread: string, operation: string, data: object): Promise<Row> {
    return this.end(await this.insert(thread, operation, data))
  }

  async thread(id: string) {
    const { rows } = await this.#pool.query('select * from threads where id = $1', [id])
    return rows[0]
  }

  /** As if the second were over in which the newest message of the thread came: the next one need not wait for it. */
  async secondIsOver(id: string): Promise<void> {
    await this.#pool.query('update threads set last_message_at = null where id = $1', [id])
  }

  /** What the ledger says of an operation beyond its statuses, oldest first. */
  async ledger(id: number): Promise<Array<{ to_status: string; code: string; detail: any }>> {
    const { rows } = await this.#pool.query(
      `select to_status, code, detail from operation_events
        where operation_id = $1 and code is not null order by id`,
      [id],
    )
    return rows
  }

  /** All that was said in the provider thread of a thread, in its true order. */
  async said(thread: string): Promise<string[]> {
    const { provider_thread_id } = await this.thread(thread)
    return this.emulator.history(provider_thread_id).map((entry) => `${entry.role}: ${entry.text}`)
  }

  /** The requests that came through, oldest first. */
  sent(method: string, path: RegExp) {
    return this.relay.requests.filter(
      (request) => request.method === method && path.test(request.path),
    )
  }
}

/** Loses the answer to the first request of this kind, after the provider has acted. */
export function loseFirstAnswer(relay: Relay, method: string, path: RegExp): void {
  let lost = false
  relay.loseFrom = (request) => {
    if (lost || request.method !== method || !path.test(request.path)) return undefined
    lost = true
    return ''
  }
}

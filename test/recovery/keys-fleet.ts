import type pg from 'pg'
import pino from 'pino'
import { onTestFinished } from 'vitest'
import { loadConfig, type SettingName } from '../../src/config.ts'
import { startDispatcher } from '../../src/dispatcher/start.ts'
import { type Emulator, type EmulatorOptions, startEmulator } from '../../src/emulator/index.ts'
import { waitFor } from '../support/wait-for.ts'

/** A request that named a model, when it arrived. */
export type Arrival = { at: number; model: string }

export type KeysFleet = {
  emulator: Emulator
  /** Starts of runs, oldest first. */
  arrivals: Arrival[]
  /** Starts a real dispatcher with this key, as `inturn dispatch` does; gives what stops it. */
  start(
    apiKey: string,
    settings?: Partial<Record<SettingName, string>>,
  ): Promise<() => Promise<void>>
  /** Puts runs into lines of their own, with this model. */
  enqueue(threads: readonly string[], model: string, retry?: object): Promise<void>
  /** The rows of these threads, once `condition` holds for all of them. */
  all(threads: readonly string[], condition: (row: any) => boolean, what: string): Promise<any[]>
  /** The lane's row of lane_states once it is in this state. */
  lane(model: string, state: string): Promise<any>
}

/** Dispatchers with keys of their own on one database and one emulator, all ended with the test. */
export async function startKeysFleet(
  url: string,
  pool: pg.Pool,
  options: EmulatorOptions = {},
): Promise<KeysFleet> {
  const arrivals: Arrival[] = []
  const emulator = await startEmulator({
    latency: { queuedMs: 0, thinkMs: 0, perTokenMs: 0 },
    onRequest: ({ method, path, body }) => {
      const { model } = (body ?? {}) as { model?: string }
      if (method === 'POST' && /\/(runs|responses)$/.test(path))
        arrivals.push({ at: Date.now(), model: model ?? '' })
      return undefined
    },
    ...options,
  })
  onTestFinished(() => emulator.close())
  return {
    emulator,
    arrivals,
    async start(apiKey, settings = {}) {
      const config = loadConfig(
        {
          openaiApiKey: apiKey,
          openaiBaseUrl: emulator.url,
          databaseUrl: url,
          pollMs: '50',
          sweepMs: '50',
          shutdownMs: '500',
          laneProbeMs: '3600000',
          sweeps: false,
          ...settings,
        },
        {},
        ['databaseUrl'],
      )
      const listening = await listeners(pool)
      const dispatcher = await startDispatcher(config, pino({ level: 'silent' }))
      let stopped: Promise<void> | undefined
      const stop = () => {
        stopped ??= dispatcher.stop()
        return stopped
      }
      onTestFinished(stop)
      await waitFor(async () => (await listeners(pool)) > listening, {
        message: 'the dispatcher listens',
      })
      return stop
    },
    async enqueue(threads, model, retry) {
      await pool.query(
        `insert into thread_operations (thread_id, operation, data, retry)
         select thread, 'add_message_and_run', jsonb_build_object('message', 'Hi', 'model', $2::text), $3
           from unnest($1::text[]) as thread`,
        [threads, model, retry && JSON.stringify(retry)],
      )
    },
    all: (threads, condition, what) =>
      waitFor(
        async () => {
          const { rows } = await pool.query(
            'select * from thread_operations where thread_id = any ($1) order by id',
            [threads],
          )
          return rows.length === threads.length && rows.every(condition) && rows
        },
        { message: what },
      ),
    lane: (model, state) =>
      waitFor(
        async () => {
          const { rows } = await pool.query('select * from lane_states where model = $1', [model])
          return rows.find((row) => row.state === state)
        },
        { message: `lane "${model}" is ${state}` },
      ),
  }
}

async function listeners(pool: pg.Pool): Promise<number> {
  const { rowCount } = await pool.query(
    `select from pg_stat_activity
      where datname = current_database() and application_name = 'inturn dispatch, listening'
        and state = 'idle' and query ilike 'listen%inturn_lanes%'`,
  )
  return rowCount ?? 0
}

export const named = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${name}:${i}`)
export const isCompleted = ({ status }: { status: string }) => status === 'completed'
export const waitsFor = (code: string) => (row: any) =>
  row.status === 'pending' && row.error?.code === code

import type { Config } from '../config.ts'
import { listen } from '../db/listen.ts'
import { createPool } from '../db/pool.ts'
import { requireMigrated } from '../db/require-migrated.ts'
import { Clockwork } from '../lifecycle/clockwork.ts'
import type { Logger } from '../log.ts'
import { laneKey } from '../model/lane.ts'
import type { OnPoint } from '../model/point.ts'
import type { ProviderName } from '../model/thread.ts'
import { createProviders } from '../provider/registry.ts'
import { Dispatcher } from './dispatcher.ts'
import { createExecutor } from './executor.ts'
import { Lanes } from './lanes.ts'
import { loadTools } from './load-tools.ts'
import { StreamWriter } from './stream-writer.ts'

export type RunningDispatcher = {
  readonly id: string
  /** Claims no more, waits for what runs (see `Dispatcher.stop`) and closes every connection. */
  stop(): Promise<void>
}

/**
 * A dispatcher as `inturn dispatch` runs it, in this process: its pool, its providers, the loop, and
 * the ear that wakes it. Throws `not_migrated`, ConfigError for its tools, and what connecting throws.
 */
export async function startDispatcher(
  config: Config & { databaseUrl: string },
  log: Logger,
  { onPoint }: { onPoint?: OnPoint } = {},
): Promise<RunningDispatcher> {
  const { databaseUrl, schema, concurrency, provider: defaultProvider } = config
  const tools = config.tools === undefined ? undefined : await loadTools(config.tools)
  await requireMigrated({ databaseUrl, schema })
  const served = Object.keys(config.providers) as ProviderName[]
  const pool = createPool(databaseUrl, {
    schema,
    applicationName: 'inturn dispatch',
    queryTimeoutMs: config.leaseMs,
    onError: (error) => log.warn({ err: error }, 'database connection lost'),
  })
  const lanes = new Lanes({
    pool,
    keys: Object.fromEntries(
      Object.entries(config.providers).map(([name, { apiKey }]) => [name, laneKey(apiKey)]),
    ),
    probeMs: config.laneProbeMs,
    maxRuns: config.maxRuns,
    log,
  })
  const streams = config.streams ? new StreamWriter({ pool, log }) : undefined
  const execute = createExecutor({
    pool,
    streams,
    providers: createProviders(config.providers, () => dispatcher.mayCall),
    callTimeoutMs: config.callTimeoutMs,
    foreignRunMs: config.foreignRunMs,
    runTimeoutMs: config.runTimeoutMs,
    toolDeadlineMs: config.toolDeadlineMs,
    onToolDeadline: config.onToolDeadline,
    holdUnknown: config.holdUnknown,
    retry: {
      max_attempts: config.maxAttempts,
      base_ms: config.retryBaseMs,
      max_ms: config.retryMaxMs,
      ...config.retry,
    },
    lanes,
    maxRunsPerUser: config.maxRunsPerUser,
    onPoint,
    log,
    logContent: config.logContent,
  })
  const dispatcher = new Dispatcher({
    ...config,
    pool,
    execute,
    lanes,
    providers: served,
    defaultProvider,
    tools,
    onPoint,
    log,
  })
  await dispatcher.start().catch(async (error) => {
    await pool.end()
    throw error
  })
  const listener = listen({
    databaseUrl,
    channels: ['inturn_wake', 'inturn_lanes', 'inturn_beside'],
    applicationName: 'inturn dispatch, listening',
    // Other schemas of the same database have dispatchers of their own.
    onNotify(channel, itsSchema) {
      if (itsSchema !== schema) return
      if (channel === 'inturn_lanes') void lanes.refresh()
      else if (channel === 'inturn_beside') dispatcher.wakeBeside()
      else dispatcher.wake()
    },
    onConnected() {
      void lanes.refresh()
      dispatcher.wakeBeside()
      dispatcher.wake()
    },
    onDisconnected: (error) => log.warn({ err: error }, 'not listening; will try again'),
  })
  const clockwork = config.sweeps ? startClockwork(config, log) : undefined
  log.info(
    { dispatcher: dispatcher.id, providers: served, concurrency, schema },
    'dispatcher started',
  )
  if (!served.includes(defaultProvider)) {
    log.warn(
      `threads that name no provider wait for one that serves ${defaultProvider}; to serve them here, set INTURN_PROVIDER=${served[0]}`,
    )
  }
  return {
    id: dispatcher.id,
    async stop() {
      await Promise.all([dispatcher.stop(), clockwork?.stop()])
      await listener.close()
      await streams?.close()
      await pool.end()
    },
  }
}

/** On connections of its own: whatever it waits for, the line does not. */
function startClockwork(
  { databaseUrl, schema }: Config & { databaseUrl: string },
  log: Logger,
): { stop(): Promise<void> } {
  const pool = createPool(databaseUrl, {
    schema,
    max: 2,
    applicationName: 'inturn clockwork',
    queryTimeoutMs: 30_000,
    onError: (error) => log.debug({ err: error }, 'database connection of the clockwork lost'),
  })
  const clockwork = new Clockwork({ pool, schema, log })
  clockwork.start()
  return {
    async stop() {
      await clockwork.stop()
      await pool.end()
    },
  }
}

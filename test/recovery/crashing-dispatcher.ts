/**
 * A dispatcher of one provider that dies in the middle of its work, as a process of its own:
 * `node crashing-dispatcher.ts '{"settings": {…}, "provider": "responses", "crash": {…}}'`.
 */
import { flushCompileCache } from 'node:module'
import { loadConfig } from '../../src/config.ts'
import { startDispatcher } from '../../src/dispatcher/start.ts'
import { createLogger } from '../../src/log.ts'
import type { Point } from '../../src/model/point.ts'
import type { ProviderName } from '../../src/model/thread.ts'

/** The `occurrence`-th time that the operation reaches the point, counted from 1. */
export type Crash = { operationId: number; point: Point; occurrence: number }

export type Orders = {
  settings: Record<string, unknown>
  provider: ProviderName
  /** Null: whoever started it ends it. */
  crash: Crash | null
}

const { settings, provider, crash }: Orders = JSON.parse(process.argv[2] ?? '')
const config = loadConfig(settings, {}, ['databaseUrl', 'providers'])
// Who is killed leaves no cache behind, and the next one would have to compile everything again.
flushCompileCache()
let left = crash?.occurrence ?? 0
await startDispatcher(
  { ...config, provider, providers: { [provider]: config.providers[provider] } },
  createLogger({ level: 'error' }),
  {
    onPoint(point, { id }) {
      if (id !== crash?.operationId || point !== crash.point) return
      // The kernel lets the caller of this never come back.
      if (--left === 0) process.kill(process.pid, 'SIGKILL')
    },
  },
)

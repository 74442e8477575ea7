import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { InturnError } from '../errors.ts'
import { Activity } from './activity.ts'
import { assistantsSurface } from './assistants/index.ts'
import type { Context, HistoryEntry } from './context.ts'
import { type ConflictKind, withIdNotFound } from './errors.ts'
import { type EmulatorOptions, settingsOf } from './options.ts'
import { responsesSurface } from './responses/index.ts'
import { route } from './router.ts'
import { createEmulatorServer, type Traffic } from './server.ts'

export type { HistoryEntry } from './context.ts'
export { defaultModel } from './default-model.ts'
export type { ConflictKind } from './errors.ts'
export type { Model, ModelCall, ModelReply, ModelRequest, ModelTool, Turn } from './model.ts'
export type {
  EmulatorOptions,
  InterceptedRequest,
  Interception,
  Latency,
  RunFailure,
  RunView,
} from './options.ts'

export type EmulatorStats = {
  /** API requests received. */
  requests: number
  /** Lock errors served, of all kinds. */
  conflicts: number
  conflictsByKind: Record<ConflictKind, number>
  /** Runs and responses started. */
  runsStarted: number
  /** Time in which at least one run was being worked on, in milliseconds. */
  busyMs: number
}

export type Emulator = {
  /** The SDK's `baseURL`: `http://127.0.0.1:N/v1`. */
  readonly url: string
  readonly port: number
  /** A snapshot; also `GET /emulator/stats`. */
  readonly stats: EmulatorStats
  /** The messages of a thread or conversation in their true order; also `GET /emulator/threads/:id`. Throws when there is none. */
  history(id: string): HistoryEntry[]
  /** Cuts all connections and frees the port. */
  close(): Promise<void>
}

/** Serves both surfaces of the OpenAI API from memory, for any key; see `EmulatorOptions`. */
export async function startEmulator(options: EmulatorOptions = {}): Promise<Emulator> {
  const settings = settingsOf(options)
  const context: Context = { settings, activity: new Activity() }
  const traffic: Traffic = {
    requests: 0,
    conflicts: { run_conflict: 0, message_conflict: 0, conversation_locked: 0 },
  }
  const assistants = assistantsSurface(context)
  const responses = responsesSurface(context)
  const historyOf = (id: string) => assistants.history(id) ?? responses.history(id)

  const stats = (): EmulatorStats => ({
    requests: traffic.requests,
    conflicts: Object.values(traffic.conflicts).reduce((sum, count) => sum + count, 0),
    conflictsByKind: { ...traffic.conflicts },
    runsStarted: context.activity.runsStarted,
    busyMs: context.activity.busyMs,
  })

  const server = createEmulatorServer({
    settings,
    traffic,
    api: [...assistants.routes, ...responses.routes],
    own: [
      route('GET', '/emulator/stats', () => ({ body: stats() })),
      route('GET', '/emulator/threads/:id', ({ params: { id = '' } }) => {
        const body = historyOf(id)
        if (!body) throw withIdNotFound('Thread', id)
        return { body }
      }),
    ],
  })
  server.listen(settings.port, settings.host)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  return {
    url: `http://${settings.host}:${port}/v1`,
    port,
    get stats() {
      return stats()
    },
    history(id) {
      const found = historyOf(id)
      if (!found) throw new InturnError('not_found', `The emulator has no thread ${id}.`)
      return found
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

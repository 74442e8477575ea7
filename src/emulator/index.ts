import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { InturnError } from '../errors.ts'
import { Activity } from './activity.ts'
import { ApiError } from './api-error.ts'
import { assistantsSurface } from './assistants/index.ts'
import { type ConflictEntry, ConflictLog } from './conflict-log.ts'
import type { Context, HistoryEntry, KeptItem } from './context.ts'
import { withIdNotFound } from './errors.ts'
import { checkFaults } from './faults/check.ts'
import type { Fault } from './faults/knobs.ts'
import { FaultPlan, type FaultReport } from './faults/plan.ts'
import { Visibility } from './faults/visibility.ts'
import { checkForeignRun, type ForeignRun, type ForeignRunOptions } from './foreign-run.ts'
import { type EmulatorOptions, settingsOf } from './options.ts'
import { ownRoutes } from './own-routes.ts'
import { type RequestEntry, type RequestFilter, RequestLog } from './request-log.ts'
import { responsesSurface } from './responses/index.ts'
import { type RunEntry, RunLog } from './run-log.ts'
import { createEmulatorServer } from './server.ts'
import { type EmulatorStats, statsOf } from './stats.ts'

export type { ConflictCause, ConflictKind } from './api-error.ts'
export type { ConflictEntry } from './conflict-log.ts'
export type { HistoryEntry, KeptItem } from './context.ts'
export { defaultModel } from './default-model.ts'
export type { Fault, FaultName, FaultOf } from './faults/knobs.ts'
export type { FaultReport } from './faults/plan.ts'
export { faultGrammar, parseFaults } from './faults/text.ts'
export type { ForeignRunOptions } from './foreign-run.ts'
export type { Model, ModelCall, ModelReply, ModelRequest, ModelTool, Turn } from './model.ts'
export type {
  EmulatorOptions,
  InterceptedRequest,
  Interception,
  Latency,
  RunFailure,
  RunView,
} from './options.ts'
export type { RequestEntry, RequestFilter } from './request-log.ts'
export type { RouteKind } from './route-kinds.ts'
export type { RunEntry } from './run-log.ts'
export type { EmulatorStats } from './stats.ts'

export type Emulator = {
  /** The SDK's `baseURL`: `http://127.0.0.1:N/v1`. */
  readonly url: string
  readonly port: number
  /** A snapshot; also `GET /emulator/stats`. */
  readonly stats: EmulatorStats
  /** The messages of a thread or conversation in their true order; also `GET /emulator/threads/:id`. Throws when there is none. */
  history(id: string): HistoryEntry[]
  /** The runs or responses of a thread, or all there were, in the order in which they started; also `GET /emulator/runs?thread=`. */
  runs(threadId?: string): RunEntry[]
  /** The API requests that fit, oldest first; also `GET /emulator/requests?key=&since=&kind=&thread=`. Of those before the last 100,000, some are forgotten. */
  requests(filter?: RequestFilter): RequestEntry[]
  /** Every lock error that was served; also `GET /emulator/conflicts`. */
  conflicts(): ConflictEntry[]
  /** Items that were left in conversations when these were deleted, and that a provider would keep; also `GET /emulator/kept-items`. */
  keptItems(): KeptItem[]
  /** The plan in force and how often each of its faults struck; also `GET /emulator/faults`. */
  readonly faults: FaultReport
  /**
   * Replaces the plan and starts its draws anew; stuck runs go on, and what was hidden can be read. Also `PUT /emulator/faults` with `{ faults, seed }`, and `DELETE`. Without a
   * seed the old one stays. Throws `faults_invalid` with every problem.
   */
  setFaults(faults: readonly Fault[], options?: { seed?: number }): void
  /**
   * Starts a run on a thread or conversation as an outsider would, and gives its id; also
   * `POST /emulator/threads/:id/foreign-run`. Throws when there is no such thread (`not_found`), or
   * when a run is active on it (`foreign_run_refused`).
   */
  foreignRun(threadId: string, options?: ForeignRunOptions): string
  /** Cuts all connections and frees the port. */
  close(): Promise<void>
}

/** Serves both surfaces of the OpenAI API from memory, for any key; see `EmulatorOptions`. */
export async function startEmulator(options: EmulatorOptions = {}): Promise<Emulator> {
  const settings = settingsOf(options)
  const plan = new FaultPlan(settings.faults, settings.seed)
  const runs = new RunLog()
  const context: Context = {
    settings,
    activity: new Activity(),
    faults: plan,
    visibility: new Visibility(plan),
    requests: new RequestLog(),
    runs,
    conflicts: new ConflictLog(runs),
    keptItems: [],
  }
  const assistants = assistantsSurface(context)
  const responses = responsesSurface(context)
  const historyOf = (id: string) => assistants.history(id) ?? responses.history(id)
  const startForeignRun = (id: string, run: ForeignRun): string => {
    const started = assistants.foreignRun(id, run) ?? responses.foreignRun(id, run)
    if (started === undefined) throw withIdNotFound('Thread', id)
    return started
  }

  const server = createEmulatorServer({
    context,
    api: [...assistants.routes, ...responses.routes],
    own: ownRoutes(context, historyOf, startForeignRun),
    threadOf: (params, body) =>
      assistants.threadOf(params, body) ?? responses.threadOf(params, body),
  })
  server.listen(settings.port, settings.host)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  return {
    url: `http://${settings.host}:${port}/v1`,
    port,
    get stats() {
      return statsOf(context)
    },
    history(id) {
      const found = historyOf(id)
      if (!found) throw new InturnError('not_found', `The emulator has no thread ${id}.`)
      return found
    },
    runs: (threadId) => runs.find(threadId),
    requests: (filter) => context.requests.find(filter),
    conflicts: () => context.conflicts.entries,
    keptItems: () => context.keptItems,
    get faults() {
      return plan.report
    },
    setFaults(faults, { seed } = {}) {
      plan.replace(checkFaults(faults), seed)
    },
    foreignRun(id, options = {}) {
      try {
        return startForeignRun(id, checkForeignRun(options))
      } catch (error) {
        if (!(error instanceof ApiError)) throw error
        const code = error.status === 404 ? 'not_found' : 'foreign_run_refused'
        throw new InturnError(code, error.message)
      }
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

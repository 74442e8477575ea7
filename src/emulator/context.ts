import type { Activity } from './activity.ts'
import type { ConflictLog } from './conflict-log.ts'
import type { FaultPlan } from './faults/plan.ts'
import type { Visibility } from './faults/visibility.ts'
import type { ForeignRun } from './foreign-run.ts'
import type { Settings } from './options.ts'
import type { RequestLog } from './request-log.ts'
import type { Route } from './router.ts'
import type { RunLog } from './run-log.ts'

/** What both surfaces need of the emulator they belong to. */
export type Context = {
  settings: Settings
  activity: Activity
  faults: FaultPlan
  visibility: Visibility
  requests: RequestLog
  runs: RunLog
  conflicts: ConflictLog
  keptItems: KeptItem[]
}

/** A message as the judge of a test wants it, whatever the surface. */
export type HistoryEntry = {
  id: string
  role: string
  /** Text parts joined by newlines. */
  text: string
  metadata: Record<string, string>
  /** The run or response that wrote it, or (Responses) brought it along; null when a caller added it. */
  runId: string | null
}

/** An item that stood in a conversation when that was deleted: the provider keeps it, out of everybody's reach. */
export type KeptItem = {
  conversation: string
  id: string
  type: string
  /** Null for what is no message. */
  text: string | null
}

/** One of the two halves of the API. Of threads and conversations that it does not have it knows nothing. */
export type Surface = {
  routes: Route[]
  history: (threadId: string) => HistoryEntry[] | undefined
  /** The thread or conversation that a request is about. */
  threadOf: (params: Record<string, string>, body: object) => string | undefined
  /** Starts one and gives its id. */
  foreignRun: (threadId: string, run: ForeignRun) => string | undefined
}

import type { Activity } from './activity.ts'
import type { Settings } from './options.ts'

/** What both surfaces need of the emulator they belong to. */
export type Context = { settings: Settings; activity: Activity }

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

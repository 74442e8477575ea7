import type { Message } from 'openai/resources/beta/threads/messages'
import type { RunStatus } from 'openai/resources/beta/threads/runs/runs'
import type { Holder } from '../api-error.ts'
import { notFound } from '../errors.ts'
import type { Turn } from '../model.ts'
import type { RouteKind } from '../route-kinds.ts'
import type { EventLog } from '../sse.ts'
import type { ServedAssistant, ServedRun, ServedStep, ServedThread } from './objects.ts'

export type ThreadState = {
  thread: ServedThread
  /** In true insertion order, whatever `created_at` says. */
  messages: Message[]
  runs: RunState[]
}

export type RunState = {
  run: ServedRun
  thread: ThreadState
  /** Oldest first. */
  steps: ServedStep[]
  /** The calls and outputs of this run so far, as the model sees them after the messages. */
  turns: Turn[]
  /** The stream of the current request; null when nobody asked for one. */
  log: EventLog | null
  stop: AbortController
  /** Settles when nothing works on the run any more (it is over or waits for tool outputs). */
  worked: Promise<void>
  expiry: NodeJS.Timeout | undefined
  /** The request that set it to work last, or `foreignMs` when none did: an outsider's run takes that long. */
  origin: RunOrigin
}

export type RunOrigin = { kind: RouteKind } | { foreignMs: number }

export type AssistantsState = {
  assistants: Map<string, ServedAssistant>
  threads: Map<string, ThreadState>
}

const active: ReadonlySet<RunStatus> = new Set([
  'queued',
  'in_progress',
  'requires_action',
  'cancelling',
])
export const isActive = (run: ServedRun): boolean => active.has(run.status)

/** The run that locks the thread. */
export const activeRun = (thread: ThreadState): RunState | undefined => {
  const last = thread.runs.at(-1)
  return last && isActive(last.run) ? last : undefined
}

export const holderOf = ({ origin, run }: RunState): Holder => ({
  cause: 'foreignMs' in origin ? 'foreign_run' : 'own_run',
  runId: run.id,
})

export function threadOf(state: AssistantsState, id: string): ThreadState {
  const thread = state.threads.get(id)
  if (!thread) throw notFound('thread', id)
  return thread
}

export function runOf(state: AssistantsState, params: Record<string, string>): RunState {
  const { thread_id = '', run_id = '' } = params
  const found = threadOf(state, thread_id).runs.find(({ run }) => run.id === run_id)
  if (!found) throw notFound('run', run_id)
  return found
}

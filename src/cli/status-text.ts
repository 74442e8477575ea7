import { laneName } from '../model/lane.ts'
import type { DeadLetter } from '../store/dead-letters.ts'
import type { LaneReport } from '../store/lane-states.ts'
import type { DispatcherReport, ThreadReport, WaitingReport } from '../store/reports.ts'
import type { TimelineEntry } from '../store/thread-views.ts'
import { restText } from './lanes.ts'
import { formatTable } from './table.ts'

export type Status = {
  dispatchers: DispatcherReport[]
  threads: ThreadReport[]
  waiting: WaitingReport[]
  /** Lanes that rest. */
  resting: LaneReport[]
  /** Only of one thread. */
  timeline?: TimelineEntry[]
}

/** A status as people read it: who serves, what every thread does, what waits, what happened. */
export function formatStatus(status: Status): string {
  const { timeline } = status
  const parts = [dispatchersText(status), threadsText(status), waitingText(status)]
  if (status.resting.length > 0) parts.push(restingText(status))
  return [...parts, ...(timeline ? [timelineText(timeline)] : [])].join('\n\n')
}

/** Operations that failed, with the end of each attempt. */
export function formatDeadLetters(letters: readonly DeadLetter[]): string {
  if (letters.length === 0) return 'No operation has failed.'
  const rows = letters.map((letter) => [
    letter.id,
    letter.thread_id,
    letter.turn,
    letter.operation,
    time(letter.failed_at),
    letter.attempts.map(({ status, code }) => code ?? status).join(', '),
    letter.message,
  ])
  const titles = ['FAILED', 'THREAD', 'TURN', 'OPERATION', 'AT (UTC)', 'ATTEMPTS', 'WHY']
  return formatTable(titles, rows)
}

function dispatchersText({ dispatchers }: Status): string {
  if (dispatchers.length === 0) return 'No dispatcher is running.'
  const rows = dispatchers.map(({ id, providers, concurrency, silent_ms, lease_ms, direct }) => [
    id,
    providers.join(', '),
    concurrency,
    direct ? 'direct' : 'through a pooler',
    `${duration(silent_ms)} ago${silent_ms < lease_ms ? '' : ' (dead)'}`,
  ])
  const titles = ['DISPATCHER', 'SERVES', 'AT ONCE', 'CONNECTION', 'LAST SIGN OF LIFE']
  return formatTable(titles, rows)
}

function threadsText({ threads, timeline }: Status): string {
  if (threads.length === 0) return 'No thread has work, and none had.'
  // Ids are long: they are shown where there is one thread.
  const ids = timeline !== undefined
  const rows = threads.map((thread) => [
    thread.thread_id,
    thread.state,
    thread.waiting,
    thread.active_operation && `${thread.active_operation} ${thread.active_operation_id}`,
    thread.last_run_status,
    thread.provider,
    ...(ids ? [thread.provider_thread_id] : []),
  ])
  const titles = ['THREAD', 'STATE', 'WAITING', 'NOW', 'LAST RUN', 'PROVIDER']
  if (ids) titles.push('PROVIDER THREAD')
  return formatTable(titles, rows)
}

function waitingText({ waiting }: Status): string {
  const rows = waiting.map((operation) => [
    operation.id,
    operation.thread_id,
    operation.position,
    operation.operation,
    duration(operation.waited_for_thread_ms),
    operation.waited_as_head_ms === null ? null : duration(operation.waited_as_head_ms),
    operation.waits_for,
  ])
  const titles = ['WAITING', 'THREAD', 'POSITION', 'OPERATION', 'IN LINE', 'AS HEAD', 'WAITS FOR']
  return rows.length === 0 ? 'Nothing waits.' : formatTable(titles, rows)
}

function restingText({ resting }: Status): string {
  const rows = resting.map((lane) => [
    lane.provider,
    laneName(lane.key, lane.model),
    lane.waiting,
    restText(lane),
  ])
  return formatTable(['RESTING LANE', 'KEY/MODEL', 'WAITING', 'RESTS'], rows)
}

function timelineText(timeline: readonly TimelineEntry[]): string {
  const rows = timeline.map(({ at, operation_id, operation, turn, event, code, run_id, actor }) => [
    time(at),
    operation_id,
    operation,
    turn,
    code ? `${event} (${code})` : event,
    run_id,
    actor,
  ])
  const titles = ['AT (UTC)', 'OPERATION', 'KIND', 'TURN', 'EVENT', 'RUN', 'BY']
  return formatTable(titles, rows)
}

const time = (at: Date) => at.toISOString().slice(0, 23).replace('T', ' ')

function duration(ms: number): string {
  if (ms < 1000) return `${ms} ms`
  const seconds = ms / 1000
  if (seconds < 60) return `${seconds.toFixed(1)} s`
  const minutes = Math.floor(seconds / 60)
  return minutes < 60
    ? `${minutes} min ${Math.floor(seconds % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

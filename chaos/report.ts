import { formatTable } from '../src/cli/table.ts'
import type { ConflictEntry, EmulatorStats } from '../src/emulator/index.ts'
import type { Recovery } from './deaths.ts'
import type { FleetCounts } from './fleet.ts'
import type { Judged } from './history.ts'
import { type Offender, offences } from './offender.ts'
import type { Generation } from './story.ts'

/** What came of a run. */
export type Result = {
  seed: number
  operations: Judged[]
  offenders: Offender[]
  recoveries: Recovery[]
  /** How long the last operations took once all was calm, in milliseconds. */
  drainedMs: number
  counts: FleetCounts & {
    restarts: number
    sessionsCut: number
    connectionsTaken: number
    heldRows: number
    /** Operations that were held for an operator, and resumed when all was calm. */
    resumed: number
    foreignRuns: number
    /** Those that kept their thread from the turn to the release. */
    holds: number
  }
  generations: Generation[]
  conflicts: ConflictEntry[]
  faults: EmulatorStats['faults']
  /** What it has left behind, where something is wrong. */
  folder: string | null
}

export function reportText({
  seed,
  operations,
  offenders,
  recoveries,
  drainedMs,
  counts,
  generations,
  conflicts,
  faults,
  folder,
}: Result): string {
  const byStatus = (status: string) => operations.filter((one) => one.status === status)
  const failures = countBy(byStatus('failed').map(({ error }) => error?.code ?? '?'))
  const offence = countBy(offenders.map((one) => one.offence))
  const rows: Array<[string, string]> = [
    [
      'operations',
      `${operations.length}: ${byStatus('completed').length} completed, ${byStatus('cancelled').length} cancelled, ${byStatus('failed').length} failed (${counted(failures)})`,
    ],
    [
      'dispatchers',
      `${counts.kill} killed, ${counts.stop} stopped and continued, ${counts.terminate} restarted, ${counts.crash} ended by themselves`,
    ],
    [
      'database',
      `${counts.restarts} restarts, ${counts.sessionsCut} sessions terminated, ${counts.connectionsTaken} connections taken away, ${counts.heldRows} idle transactions`,
    ],
    ['foreign runs', `${counts.foreignRuns}, and ${counts.holds} under a hold`],
    ['provider threads', livesText(generations)],
    ['faults', counted(faults)],
    ['conflicts served', counted(countBy(conflicts.map(causeOf)))],
    ...(['kill', 'stop'] as const).flatMap((how): Array<[string, string]> => {
      const those = recoveries.filter((one) => one.how === how)
      const signal = how === 'kill' ? 'SIGKILL' : 'SIGSTOP'
      return [
        [`after ${signal}`, recoveryText(those)],
        ['  no call in flight', recoveryText(those.filter(({ inFlight }) => !inFlight))],
      ]
    }),
    ['held for an operator', `${counts.resumed}, each resumed`],
    ['drained in', seconds(drainedMs)],
    ...offences.map((name): [string, string] => [named[name], String(offence[name] ?? 0)]),
  ]
  const found = offenders.length === 0 ? [] : ['', ...offenders.map(offenderText)]
  const left = folder === null ? [] : ['', `To be seen in ${folder}; again with --seed ${seed}.`]
  return [formatTable(['seed', String(seed)], rows), ...found, ...left].join('\n')
}

/** What a conflict was met by: with a run of ours, most are looks for one whose id was lost. */
const causeOf = ({ cause, probe, resent }: ConflictEntry): string =>
  cause !== 'own_run' ? cause : probe ? 'look for a lost run' : resent ? 'resent' : cause

function livesText(generations: readonly Generation[]): string {
  const ends = countBy(generations.flatMap(({ ended_by }) => ended_by ?? []))
  const copies = generations.filter(({ copied_from }) => copied_from !== null).length
  const deleted = generations.filter(({ deleted_at }) => deleted_at !== null).length
  return `${generations.length}: ${counted(ends)}; ${copies} began as copies, ${deleted} deleted`
}

const counted = (counts: Record<string, number>): string =>
  Object.entries(counts)
    .map(([name, n]) => `${n} ${name}`)
    .join(', ') || 'none'

const named = {
  duplicate: 'duplicates',
  loss: 'losses',
  order: 'order violations',
  conflict: 'unexplained conflicts',
  failure: 'unexplained failures',
  end: 'unexplained ends',
  hold: 'holds not kept',
  stream: 'streams that differ',
  life: 'archives, copies, deletions wrong',
  doctor: 'doctor',
}

const offenderText = ({ offence, thread, operations, text }: Offender) =>
  `${offence}: ${thread ?? 'no thread'}, operations ${operations.join(', ') || '-'}: ${text}`

/** From the death on, until its claim was taken from it, and until its thread was served again. */
function recoveryText(recoveries: readonly Recovery[]): string {
  if (recoveries.length === 0) return 'no threads'
  const at = (share: number, times: readonly number[]) =>
    seconds(times[Math.min(times.length - 1, Math.floor(times.length * share))] as number)
  const spread = (of: (recovery: Recovery) => number) => {
    const times = recoveries.map(of).sort((a, b) => a - b)
    return `p50 ${at(0.5, times)}, p99 ${at(0.99, times)}`
  }
  const released = spread(({ releasedMs }) => releasedMs)
  return `${recoveries.length} threads: released ${released}; served again ${spread(({ servedMs }) => servedMs)}`
}

function countBy(words: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    [...Map.groupBy(words, (word) => word)].map(([word, all]) => [word, all.length]),
  )
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`

import type pg from 'pg'
import type { ConflictEntry, Emulator } from '../src/emulator/index.ts'
import { defaultLimits, examine } from '../src/store/doctor/examine.ts'
import { brokenPromises, type Sent } from '../test/support/promised-order.ts'
import { brokenHolds, unexplainedEnds } from './ends-judge.ts'
import type { Judged } from './history.ts'
import type { Held } from './holders.ts'
import { brokenLives } from './lives-judge.ts'
import { type Offender, offender } from './offender.ts'
import { type Generation, generationsOf } from './story.ts'
import { brokenStreams } from './streams-judge.ts'
import { judgeThread, type Thread } from './thread-judge.ts'

export type Evidence = {
  pool: pg.Pool
  emulator: Emulator
  sent: readonly Sent[]
  held: readonly Held[]
}

/** Failures that faults explain: the provider went on refusing until the attempts were used up. */
const exhausted =
  /^(thread_busy|hold_expired|connection_lost|provider_timeout|provider_error|provider_unreachable|overloaded|server_error|rate_limit_exceeded|run_expired|run_timeout|outcome_unknown|foreign_run_timeout)$/

/** Compares what the provider holds, by its own account, with what was promised. */
export async function judge({ pool, emulator, sent, held }: Evidence): Promise<{
  operations: Judged[]
  generations: Generation[]
  offenders: Offender[]
}> {
  const { rows: operations } = await pool.query<Judged>(
    `select id, thread_id, operation, data, status, turn, scheduled_at, target_id, merges, error, result
       from thread_operations order by thread_id, turn nulls last`,
  )
  const { rows: threads } = await pool.query<Thread>(
    'select id, provider, provider_thread_id from threads order by id',
  )
  const generations = await generationsOf(pool)
  const offenders = [
    ...unfinished(operations, sent),
    ...outOfOrder(operations, sent),
    ...(await conflicts(pool, emulator, { operations, generations })),
    ...(await doubleRuns(pool, operations, emulator)),
    ...unexplainedEnds(operations),
    ...brokenHolds(held, operations, emulator),
    ...(await brokenStreams(pool, operations)),
    ...(await brokenLives(pool, emulator, generations)),
  ]
  for (const thread of threads) {
    const own = operations.filter(({ thread_id }) => thread_id === thread.id)
    const lives = generations.filter(({ thread_id }) => thread_id === thread.id)
    offenders.push(...(await judgeThread(thread, own, { pool, emulator, generations: lives })))
  }
  for (const { invariant, offenders: found } of await examine(pool, defaultLimits)) {
    for (const { id, thread, detail } of found)
      offenders.push({
        offence: 'doctor',
        thread,
        operations: [id],
        text: `${invariant.name}: ${detail}`,
      })
  }
  return { operations, generations, offenders }
}

function unfinished(operations: readonly Judged[], sent: readonly Sent[]): Offender[] {
  const known = new Set(operations.map(({ id }) => id))
  return [
    ...sent
      .filter(({ id, committed }) => Number.isFinite(committed ?? Infinity) && !known.has(id))
      .map(({ id, thread }) => offender('loss', thread, [id], 'committed, and not in the table')),
    ...operations.flatMap((operation) => {
      const { id, thread_id, status, error } = operation
      if (!/^(completed|failed|cancelled)$/.test(status))
        return [offender('loss', thread_id, [id], `still ${status} (${error?.code ?? 'no error'})`)]
      return status === 'failed' && !exhausted.test(error?.code ?? '')
        ? [offender('failure', thread_id, [id], `failed: ${JSON.stringify(error)}`)]
        : []
    }),
  ]
}

function outOfOrder(operations: readonly Judged[], sent: readonly Sent[]): Offender[] {
  // Who joins later, or is superseded or taken along, is promised no turn among the others; a deletion
  // goes before all who wait.
  const turns = new Map(
    operations.flatMap(({ id, turn, scheduled_at, operation }) =>
      turn === null || scheduled_at !== null || operation === 'delete_thread'
        ? []
        : [[id, turn] as const],
    ),
  )
  const served = sent.filter(({ id }) => turns.has(id))
  return brokenPromises(served, turns).map(({ thread, first, second }) =>
    offender('order', thread, [first, second], `${second} was started before ${first}`),
  )
}

async function doubleRuns(
  pool: pg.Pool,
  operations: readonly Judged[],
  emulator: Emulator,
): Promise<Offender[]> {
  // On Conversations, each round of calls is answered by another response.
  const { rows } = await pool.query(
    `select c.operation_id, max(c.round) as rounds from tool_calls c join threads t on t.id = c.thread_id
      where t.provider = 'responses' group by 1`,
  )
  const rounds = new Map(rows.map(({ operation_id, rounds }) => [operation_id, rounds]))
  const wellRun = emulator.runs().filter(({ status }) => /^(completed|incomplete)$/.test(status))
  const byTag = Map.groupBy(wellRun, ({ metadata }) => metadata.inturn_operation)
  return operations.flatMap(({ id, thread_id, operation, status }) => {
    const runs = byTag.get(String(id)) ?? []
    const must = status === 'completed' && /^(create_run|add_message_and_run)$/.test(operation)
    if (runs.length > 1 + (rounds.get(id) ?? 0))
      return [
        offender('duplicate', thread_id, [id], `${runs.length} runs: ${runs.map((run) => run.id)}`),
      ]
    return must && runs.length === 0
      ? [offender('loss', thread_id, [id], 'completed without a run')]
      : []
  })
}

/**
 * A conflict must come from an outsider, from a lock that lingers, from a look for a run whose id was
 * lost, or from the run of an operation that its user has cancelled in between; and the ledger must
 * tell of it, unless it was the answer to a look at the lock, or whoever met it died or was cancelled
 * with it.
 */
async function conflicts(
  pool: pg.Pool,
  emulator: Emulator,
  {
    operations,
    generations,
  }: { operations: readonly Judged[]; generations: readonly Generation[] },
): Promise<Offender[]> {
  const found: Offender[] = []
  const tagOf = new Map(emulator.runs().map((run) => [run.id, run.metadata.inturn_operation]))
  const cancelled = new Set(
    operations.flatMap(({ id, status }) => (status === 'cancelled' ? [String(id)] : [])),
  )
  const isAllowed = ({ cause, resent, probe, runId }: ConflictEntry) =>
    cause !== 'own_run' || resent || probe || cancelled.has(tagOf.get(runId ?? '') ?? '')
  const served = Map.groupBy(emulator.conflicts(), ({ threadId }) => threadId)
  for (const [providerThread, entries] of served) {
    const id =
      generations.find((one) => one.provider_thread_id === providerThread)?.thread_id ?? null
    const own = entries.filter((entry) => !isAllowed(entry))
    if (own.length > 0) {
      const holders = own.map(({ runId }) => Number(tagOf.get(runId ?? '')))
      const text = `${own.length} × ${own[0]?.kind} with a run of its own`
      found.push(offender('conflict', id, [...new Set(holders)], text))
    }
    const { rows } = await pool.query(
      `select count(*) filter (where code in ('thread_busy', 'conversation_locked')) as told,
              count(*) filter (where to_status = 'cancelled') as cancelled,
              count(*) filter (where from_status = 'processing' and retry_at <= at) as died
         from operation_events where thread_id = $1`,
      [id],
    )
    const { told, cancelled, died } = rows[0]
    const met = entries.filter(({ probe }) => !probe).length
    if (met > told + cancelled + died)
      found.push(offender('conflict', id, [], `${met} conflicts, ${told} in the ledger`))
  }
  return found
}

import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Invariant, Limits, Offender } from './invariant.ts'
import { ledgerInvariants } from './ledger.ts'
import { leftBehindInvariants } from './left-behind.ts'
import { lifecycleInvariants } from './lifecycle.ts'
import { lineInvariants } from './line.ts'
import { rowInvariants } from './rows.ts'
import { turnInvariants } from './turns.ts'

/** How one invariant was found. */
export type Finding = {
  invariant: Invariant
  /** How many rows break it; 0: it holds. */
  broken: number
  /** Those with the lowest ids, at most 10,000. */
  offenders: Offender[]
}

export type Question = Limits & {
  /** Default: all. */
  threadId?: string
}

export const defaultLimits: Limits = { graceMs: 2_000, staleMs: 300_000 }

const mostOffenders = 10_000

export const invariants = (limits: Limits): Invariant[] => [
  ...lineInvariants,
  ...turnInvariants,
  ...ledgerInvariants,
  ...rowInvariants,
  ...lifecycleInvariants,
  ...leftBehindInvariants(limits),
]

/**
 * Looks whether every invariant holds; changes nothing and locks nothing, also while the lines are
 * served. Takes `graceMs` longer where something momentary was found, to look at it again.
 *
 * What rows cannot tell: when a transaction committed. Of two operations that were started in another
 * order than they were inserted, only those are recognised as wrong where somebody else had marked the
 * passed one before. Nor can they tell what the provider holds.
 */
export async function examine(pool: pg.Pool, question: Question): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const invariant of invariants(question)) {
    findings.push(await look(pool, invariant, question.threadId))
  }
  const isPassing = ({ invariant, broken }: Finding) => invariant.momentary && broken > 0
  if (!findings.some(isPassing)) return findings
  await sleep(question.graceMs)
  return Promise.all(
    findings.map(async (finding) =>
      isPassing(finding)
        ? stillThere(finding, await look(pool, finding.invariant, question.threadId))
        : finding,
    ),
  )
}

async function look(pool: pg.Pool, invariant: Invariant, threadId?: string): Promise<Finding> {
  const { rows } = await pool.query({
    text: `select offender.id, offender.thread, offender.detail, count(*) over () as broken
             from (${invariant.sql}) as offender order by offender.id limit ${mostOffenders}`,
    values: [threadId ?? null],
  })
  return {
    invariant,
    broken: rows[0]?.broken ?? 0,
    offenders: rows.map(({ id, thread, detail }) => ({ id, thread, detail })),
  }
}

/** Those that were there at the first look already. */
function stillThere(before: Finding, now: Finding): Finding {
  const known = new Set(before.offenders.map(({ id }) => id))
  const offenders = now.offenders.filter(({ id }) => known.has(id))
  return { ...now, offenders, broken: offenders.length }
}

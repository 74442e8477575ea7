import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { expireThreads } from '../store/expiry.ts'
import {
  deleteUnfinishedArchives,
  pruneArchives,
  pruneOperations,
  type RetentionStep,
} from '../store/retention.ts'
import { type NearLimit, threadsNearLimit } from '../store/thread-limits.ts'

/** What a sweep has done. */
export type Swept = {
  /** Conversations whose end was asked for, because their time is over. */
  expiries_requested: number
  /** Of all sweeps; they are operations in line, and end by themselves. */
  expiries_under_way: number
  operations_pruned: number
  archives_pruned: number
  /** Threads that come near to the most messages that their provider takes. */
  near_limit: NearLimit[]
}

export type SweepOptions = {
  pool: pg.Pool
  /** How long it asks for more expiries as earlier ones end, in milliseconds. Default 0: it asks once. */
  forMs?: number
  signal?: AbortSignal
}

/** Most expiries under way in the whole cluster, also where there are slots for more. */
const expiriesAtOnce = 200
const pauseMs = 250
/** Operations and archives looked at, and items of archives deleted, in one transaction. */
const steps = { operations: 500, archives: 100, items: 2_000 }
/** Rows that one walk looks at without deleting any, before it leaves the rest to the next sweep. */
const rowsPerWalk = 100_000
const longestWalkMs = 30_000
/** Longer than the pause between two sweeps. */
const activeSinceMs = 180_000

/**
 * Everything that policies ask for, once: expiry, retention of operations and archives, and a look for
 * threads near a hard limit. Any number may run at once; what one of them is at, the others leave alone.
 */
export async function sweep({ pool, forMs = 0, signal }: SweepOptions): Promise<Swept> {
  const endsAt = performance.now() + forMs
  let pass = await expireThreads(pool, expiriesAtOnce)
  let requested = pass.requested
  const operations = await walk(() => pruneOperations(pool, steps.operations), signal)
  const archives = await walk(() => pruneArchives(pool, steps.archives), signal)
  await walk(() => deleteLeftovers(pool), signal)
  const near = await threadsNearLimit(pool, activeSinceMs)
  while (pass.waiting > 0 && performance.now() < endsAt && !signal?.aborted) {
    await sleep(pauseMs, undefined, { signal }).catch(() => {})
    pass = await expireThreads(pool, expiriesAtOnce)
    requested += pass.requested
  }
  return {
    expiries_requested: requested,
    expiries_under_way: pass.waiting,
    operations_pruned: operations,
    archives_pruned: archives,
    near_limit: near,
  }
}

/** Goes on step by step until the walk has come round; returns how many rows were deleted. */
async function walk(step: () => Promise<RetentionStep>, signal?: AbortSignal): Promise<number> {
  const endsAt = performance.now() + longestWalkMs
  let pruned = 0
  for (let looked = 0; looked < rowsPerWalk && performance.now() < endsAt; ) {
    if (signal?.aborted) break
    const done = await step()
    pruned += done.pruned
    if (done.is_round) break
    if (done.pruned === 0) looked += done.looked
  }
  return pruned
}

/** What is left of archives that were deleted or given up. */
async function deleteLeftovers(pool: pg.Pool): Promise<RetentionStep> {
  const pruned = await deleteUnfinishedArchives(pool, steps.items)
  return { looked: pruned, pruned, is_round: pruned < steps.items }
}

import { describe, expect } from 'vitest'
import type { Fault, RouteKind } from '../../src/emulator/index.ts'
import type { ProviderName } from '../../src/model/thread.ts'
import { test } from '../support/own-database.ts'
import { Fleet, type Said } from './fleet.ts'

/** An operation, and the one of its requests that a fault strikes. */
type Place = { provider: ProviderName; operation: Said; on: RouteKind }

const messages: Place[] = [
  { provider: 'responses', operation: 'add_message', on: 'items.create' },
  { provider: 'assistants', operation: 'add_message', on: 'messages.create' },
  { provider: 'assistants', operation: 'add_message_and_run', on: 'messages.create' },
]
const runs: Place[] = [
  { provider: 'responses', operation: 'add_message_and_run', on: 'responses.create' },
  { provider: 'responses', operation: 'create_run', on: 'responses.create' },
  { provider: 'assistants', operation: 'add_message_and_run', on: 'runs.create' },
  { provider: 'assistants', operation: 'create_run', on: 'runs.create' },
]
const creations = [...messages, ...runs]

const timeoutMs = 500
const settleMs = 2_500
const runTimeoutMs = 1_000

/** The faults that an operation meets, by the place where the first of them strikes. */
type FaultsAt = (place: Place) => object[]
const at =
  (...faults: object[]): FaultsAt =>
  ({ on }) =>
    faults.map((fault) => ({ on, times: 1, ...fault }))

const afterTheEffect = {
  'a connection that is reset after the effect': { name: 'reset_after_commit' },
  'no answer in time after the effect': { name: 'timeout_after_commit', ms: 2_000 },
  'an effect that comes when the caller has left': { name: 'late_commit', ms: timeoutMs + 200 },
  'an answer that falls silent in the middle': { name: 'answer_stalls' },
  'a 500 after the effect': { name: 'server_error_after_commit' },
}
const withoutEffect = {
  'a connection that is reset before the effect': { name: 'reset_before_commit' },
  'no answer in time, and no effect': { name: 'timeout_before_commit', ms: 2_000 },
  'a 500 before the effect': { name: 'server_error_before_commit' },
  'a 503': { name: 'overloaded' },
  'a 429 without Retry-After': { name: 'rate_limit' },
  'a 429 with Retry-After': { name: 'rate_limit', retryAfterMs: 300 },
  'a 429 that asks to slow down': { name: 'rate_limit', code: 'slow_down' },
}
const reads = ['items.list', 'messages.list', 'runs.list', 'runs.retrieve', 'responses.retrieve']
const ties = { name: 'tied_order', on: 'messages.list', times: undefined }
const lag = { name: 'read_lag', on: reads, ms: 400, times: undefined }

type Cell = { what: string; faults: FaultsAt; places: Place[] }

const cells: Cell[] = [
  ...Object.entries({ ...afterTheEffect, ...withoutEffect }).map(([what, fault]) => ({
    what,
    faults: at(fault),
    places: creations,
  })),
  ...Object.entries(afterTheEffect).map(([what, fault]) => ({
    what: `${what}, where reads lag`,
    faults: at(fault, lag),
    places: creations,
  })),
  {
    what: 'a connection that is reset after the effect, where messages of one second change places',
    faults: at({ name: 'reset_after_commit' }, ties),
    places: creations.filter(({ provider }) => provider === 'assistants'),
  },
  {
    what: 'a connection that is reset after the effect, and the look at what came of it too',
    faults: at(
      { name: 'reset_after_commit' },
      { name: 'reset_before_commit', on: reads },
      { name: 'server_error_before_commit', on: reads },
      { name: 'timeout_before_commit', on: reads, ms: 2_000 },
      { name: 'rate_limit', on: reads },
    ),
    places: creations,
  },
  {
    what: 'a connection that is reset three times, before and after the effect',
    faults: at({ name: 'reset_before_commit', times: 2 }, { name: 'reset_after_commit' }),
    places: creations,
  },
  ...[0, 1, 2, 5].map((event) => ({
    what: `a stream that breaks before its event ${event}`,
    faults: at({ name: 'stream_cut', event }),
    places: runs,
  })),
  ...Object.entries({
    'a stream that ends as if it were complete': [{ name: 'stream_cut', event: 2, silently: true }],
    'a stream that breaks and can be taken up no more': [
      { name: 'stream_cut', event: 2 },
      { name: 'replay_gone', on: 'responses.retrieve', times: undefined },
    ],
    'a stream that falls silent': [{ name: 'answer_stalls', event: 2 }],
    'a run that is stuck in the queue for a time': [{ name: 'stuck_queued', ms: 800 }],
    'a run that says nothing for a time': [{ name: 'stuck_in_progress', ms: 800 }],
    'a run that fails': [{ name: 'run_fails' }],
    'a run that fails after its answer was lost': [
      { name: 'reset_after_commit' },
      { name: 'run_fails' },
    ],
    'a run that meets a rate limit': [{ name: 'run_fails', code: 'rate_limit_exceeded' }],
  }).map(([what, faults]) => ({ what, faults: at(...faults), places: runs })),
  {
    what: 'a failed response that keeps its input',
    faults: at({ name: 'run_fails' }, { name: 'failed_input_stays' }),
    places: runs.filter(({ provider }) => provider === 'responses'),
  },
  {
    what: 'a lock that outlives its response',
    faults: at({ name: 'lock_lingers', ms: 700 }),
    places: runs.filter(({ provider }) => provider === 'responses'),
  },
  {
    what: 'a run that expires',
    faults: at({ name: 'run_expires' }),
    places: runs.filter(({ provider }) => provider === 'assistants'),
  },
  ...Object.entries({
    'a run that is stuck in the queue for ever': [{ name: 'stuck_queued' }],
    'a run that never says a word': [{ name: 'stuck_in_progress' }],
    'a run that is stuck, and then in being cancelled': [
      { name: 'stuck_in_progress' },
      { name: 'stuck_cancelling', on: 'runs.cancel', ms: 700 },
    ],
    'a run that is cancelled too late and completes': [
      { name: 'stuck_in_progress', ms: runTimeoutMs + 300 },
      { name: 'cancel_completes', on: ['runs.cancel', 'responses.cancel'] },
    ],
    'a stuck run whose cancel nobody answers': [
      { name: 'stuck_in_progress' },
      { name: 'reset_after_commit', on: ['runs.cancel', 'responses.cancel'] },
    ],
    'a stuck run whose cancel is lost': [
      { name: 'stuck_in_progress' },
      { name: 'reset_before_commit', on: ['runs.cancel', 'responses.cancel'] },
    ],
  }).map(([what, faults]) => ({ what, faults: at(...faults), places: runs })),
  ...Object.entries({
    'a key that is not accepted': { name: 'unauthorized' },
    'a key that may not do it from here': { name: 'forbidden' },
    'a quota that is used up': { name: 'insufficient_quota' },
    'a spend limit that is reached': {
      name: 'insufficient_quota',
      code: 'project_spend_limit_exceeded',
    },
    'a credit that is spent': { name: 'insufficient_quota', code: 'credit_balance_exhausted' },
  }).map(([what, fault]) => ({
    what: `${what}, for a time`,
    faults: at(fault),
    places: creations,
  })),
]

const short = { dispatchers: 1, callTimeoutMs: timeoutMs, settleMs, runTimeoutMs, leaseMs: 10_000 }

describe.concurrent('costs nothing:', { timeout: 60_000 }, () => {
  test.for(cells.map((cell) => [cell.what, cell] as const))(
    '%s',
    async ([, { faults, places }], { pool, url, onTestFinished: onFinished }) => {
      const fleet = await Fleet.start({ databaseUrl: url, pool, onFinished, ...short })
      const threads = await fleet.openEach(places.map(({ provider }) => provider))
      for (const { thread } of threads) await fleet.say(thread, 'add_message_and_run')
      await fleet.isOver()

      const plan = places.flatMap((place, i) =>
        faults(place).map((fault) => ({ ...fault, thread: threads[i]?.providerThreadId }) as Fault),
      )
      fleet.emulator.setFaults(plan)
      for (const [i, { operation }] of places.entries()) {
        const { thread } = threads[i] as { thread: string }
        await fleet.say(thread, operation)
        await fleet.say(thread, 'add_message_and_run')
      }
      await fleet.isOver(30_000)
      await fleet.expectOneEffectEach()
      // What strikes at creation has struck; what strikes at a look may have met none.
      const unfired = fleet.emulator.faults.faults.filter(
        ({ fired, on }) => fired === 0 && typeof on === 'string' && on.endsWith('create'),
      )
      expect(unfired).toEqual([])
    },
  )

  test.for(Object.entries({ ...afterTheEffect, ...withoutEffect }))(
    '%s, when the thread is created',
    async ([, fault], { pool, url, onTestFinished: onFinished }) => {
      const fleet = await Fleet.start({ databaseUrl: url, pool, onFinished, ...short })
      const on = ['conversations.create', 'threads.create'] as const
      fleet.emulator.setFaults(on.map((kind) => ({ ...fault, on: kind, times: 2 }) as Fault))
      for (const thread of await fleet.open(2)) {
        await fleet.say(thread, 'add_message_and_run')
        await fleet.say(thread, 'add_message')
      }
      await fleet.isOver()
      await fleet.expectOneEffectEach()
      expect(fleet.emulator.faults.faults.map(({ fired }) => fired)).toEqual([2, 2])
    },
  )
})

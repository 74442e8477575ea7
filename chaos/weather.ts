import type { Fault } from '../src/emulator/index.ts'
import type { Random } from '../test/support/random.ts'
import type { Scale } from './scale.ts'

/** What goes wrong at the provider for a while, beginning `atMs` after the start. */
export type Weather = { atMs: number; faults: Fault[] }

const faultsAtOnce = 6
const lastsMs = 40_000

/** Requests that change something. */
const writes = [
  'conversations.create',
  'conversations.update',
  'items.create',
  'responses.create',
  'threads.create',
  'threads.update',
  'messages.create',
  'runs.create',
] as const
const reads = ['retrieve', 'list'] as const

/** Each fault that must cost nothing, once, with what is drawn for it; two that only work together as one. */
function everyFault(random: Random, { callTimeoutMs, lagMs, pace }: Scale): Array<Fault | Fault[]> {
  const ms = (atLeast: number, atMost: number) =>
    Math.round((atLeast + random.next() * (atMost - atLeast)) * pace)
  const tooLong = Math.round(callTimeoutMs * 1.1)
  const retryAfterMs = () => ms(500, 8_000)
  const on = [...writes]
  return [
    { name: 'reset_before_commit', on, probability: 0.06 },
    { name: 'reset_before_commit', on: [...reads], probability: 0.15 },
    { name: 'reset_after_commit', on, probability: 0.06 },
    { name: 'timeout_before_commit', on, ms: tooLong, probability: 0.05, times: 4 },
    { name: 'timeout_after_commit', on, ms: tooLong, probability: 0.05, times: 4 },
    {
      name: 'late_commit',
      on,
      ms: Math.round(callTimeoutMs * random.next() * 0.9),
      probability: 0.05,
      times: 6,
    },
    {
      name: 'answer_stalls',
      ms: tooLong,
      event: random.below(5),
      probability: 0.04,
      times: 4,
    },
    { name: 'server_error_before_commit', on, probability: 0.06 },
    { name: 'server_error_after_commit', on, probability: 0.06 },
    { name: 'server_error_before_commit', on: [...reads], probability: 0.15 },
    { name: 'rate_limit', on, probability: 0.05, times: 10 },
    { name: 'rate_limit', on, retryAfterMs: retryAfterMs(), probability: 0.05, times: 10 },
    { name: 'rate_limit', on: [...reads], retryAfterMs: retryAfterMs(), probability: 0.1 },
    { name: 'insufficient_quota', on, probability: 0.2, times: 2 },
    { name: 'unauthorized', on, probability: 0.2, times: 2 },
    { name: 'forbidden', on, probability: 0.2, times: 1 },
    { name: 'overloaded', on, probability: 0.08 },
    { name: 'stuck_queued', ms: ms(2_000, 30_000), probability: 0.1 },
    { name: 'stuck_in_progress', ms: ms(2_000, 30_000), probability: 0.1 },
    { name: 'stuck_cancelling', ms: ms(2_000, 10_000), probability: 0.5 },
    { name: 'run_expires', ms: ms(0, 3_000), probability: 0.08 },
    { name: 'run_fails', probability: 0.1 },
    [
      { name: 'run_fails', on: 'responses.create', probability: 0.15 },
      { name: 'failed_input_stays', probability: 0.7 },
    ],
    { name: 'run_fails', code: 'rate_limit_exceeded', probability: 0.05 },
    { name: 'read_lag', ms: lagMs, atLeastMs: 0, probability: 0.6 },
    { name: 'read_lag', on: 'list', ms: lagMs, probability: 0.3 },
    { name: 'tied_order', probability: 0.5 },
    { name: 'stream_cut', probability: 0.1 },
    { name: 'stream_cut', event: 1 + random.below(12), probability: 0.3 },
    { name: 'stream_cut', event: random.below(12), silently: true, probability: 0.2 },
    { name: 'replay_gone', probability: 0.5 },
    { name: 'cancel_completes', shows: random.of(['in_progress', 'cancelled']), probability: 0.5 },
    { name: 'lock_lingers', ms: ms(500, 6_000), probability: 0.2 },
  ]
}

/** One weather after the other until `untilMs`; each fault comes once before any comes again. */
export function weathers(random: Random, untilMs: number, scale: Scale): Weather[] {
  const all: Weather[] = []
  let deck: Array<Fault | Fault[]> = []
  for (let atMs = 0; atMs < untilMs; atMs += lastsMs * scale.pace) {
    if (deck.length < faultsAtOnce) deck = [...deck, ...shuffled(random, everyFault(random, scale))]
    all.push({ atMs: Math.round(atMs), faults: decidable(deck.splice(0, faultsAtOnce).flat()) })
  }
  return all
}

/** Whether the input of a failed response stays is looked up once: where reads lag, nothing can tell. */
function decidable(faults: readonly Fault[]): Fault[] {
  const stays = faults.some(({ name }) => name === 'failed_input_stays')
  return faults.filter(({ name }) => !(stays && name === 'read_lag'))
}

function shuffled<T>(random: Random, values: readonly T[]): T[] {
  return values
    .map((value) => ({ value, key: random.next() }))
    .sort((a, b) => a.key - b.key)
    .map(({ value }) => value)
}

import { z } from 'zod'
import { kindsOf, type RouteKind, routeKinds } from '../route-kinds.ts'
import { duration, knob } from './knob.ts'

const secret = z.string('write an API key').optional()
const caller = {
  key: secret.describe('strikes requests with this API key alone'),
  model: z
    .string('write the name of a model')
    .optional()
    .describe('strikes requests that name this model alone'),
}
const withheld = { ...caller, ms: duration().describe('how long, in milliseconds') }
const request = <const Shape extends z.ZodRawShape = Record<never, never>>(
  text: string,
  own?: Shape,
) => knob(routeKinds, text, { ...caller, ...own } as typeof caller & Shape)

const runStarts = ['runs.create', 'threads.create_and_run', 'runs.submit_tool_outputs'] as const
const starts = [...runStarts, 'responses.create'] as const
const held = { ms: duration().optional().describe('for how long; default: until the plan changes') }
const reads: readonly RouteKind[] = [
  'threads.retrieve',
  'messages.list',
  'messages.retrieve',
  'runs.list',
  'runs.retrieve',
  'conversations.retrieve',
  'items.list',
  'items.retrieve',
  'responses.retrieve',
]
const count = 'write a whole number from 0'

const quotaCodes = [
  'insufficient_quota',
  'credit_balance_exhausted',
  'project_spend_limit_exceeded',
  'organization_spend_limit_exceeded',
  'billing_not_active',
] as const

/** Every fault that the emulator knows; `docs/faults.md` is made from this. */
export const knobs = {
  reset_before_commit: request('The connection is reset; nothing has happened.'),
  reset_after_commit: request('The effect happens, then the connection is reset.'),
  timeout_before_commit: request(
    'No answer for a time, then the connection is reset; nothing has happened.',
    withheld,
  ),
  timeout_after_commit: request('The effect happens at once, its answer comes late.', withheld),
  late_commit: request(
    'The request waits before it takes effect, even if the caller has left by then.',
    withheld,
  ),
  answer_stalls: request('The effect happens, the answer begins and then falls silent.', {
    ms: duration()
      .optional()
      .describe(
        'after how long the connection is reset, in milliseconds; default: when the plan changes',
      ),
    event: z
      .int(count)
      .min(0, count)
      .default(0)
      .describe('the first event of a stream that does not arrive, counted from 0'),
  }),
  server_error_before_commit: request('Answers 500; nothing has happened.'),
  server_error_after_commit: request('The effect happens, the answer is a 500.'),
  rate_limit: request('Answers 429, without Retry-After unless told.', {
    code: z
      .enum(['rate_limit_exceeded', 'slow_down'], 'write rate_limit_exceeded or slow_down')
      .default('rate_limit_exceeded')
      .describe('its code: rate_limit_exceeded or slow_down'),
    retryAfter: z
      .int(count)
      .min(0, count)
      .optional()
      .describe('what `retry-after` says, in seconds'),
    retryAfterMs: duration().optional().describe('what `retry-after-ms` says, in milliseconds'),
  }),
  insufficient_quota: request('Answers 429: no money left, or no more of it to be spent.', {
    code: z
      .enum(quotaCodes, `write ${quotaCodes.join(', ')}`)
      .default('insufficient_quota')
      .describe(`its code: ${quotaCodes.join(', ')}`),
  }),
  unauthorized: request('Answers 401 `invalid_api_key`.'),
  forbidden: request('Answers 403: not allowed from here.'),
  overloaded: request('Answers 503 `server_is_overloaded`.'),
  assistants_sunset: knob(
    [...new Set(['assistants', 'threads', 'messages', 'runs', 'steps'].flatMap(kindsOf))],
    'Answers 404 as if there were no Assistants API, as OpenAI does since 2026-08-26.',
    caller,
  ),
  stuck_queued: knob(starts, 'The run stays `queued`.', held),
  stuck_in_progress: knob(starts, 'The run stays `in_progress` without a word.', held),
  stuck_cancelling: knob(['runs.cancel'], 'The run stays `cancelling`.', held),
  run_expires: knob(runStarts, 'The run stops thinking and ends `expired`.', {
    ms: duration().default(0).describe('how long it is silent before'),
  }),
  run_fails: knob(starts, 'The run ends `failed` when it comes to think.', {
    code: z
      .enum(
        ['server_error', 'rate_limit_exceeded', 'invalid_prompt'],
        'write server_error, rate_limit_exceeded or invalid_prompt',
      )
      .default('server_error')
      .describe('the code of its last error: server_error, rate_limit_exceeded or invalid_prompt'),
  }),
  cancel_completes: knob(
    ['runs.cancel', 'responses.cancel'],
    'The cancel is answered, but the run goes on, locks its thread and ends `completed`. One that waits for tool outputs is cancelled all the same.',
    {
      shows: z
        .enum(['in_progress', 'cancelled'], 'write in_progress or cancelled')
        .default('in_progress')
        .describe(
          'what a response claims until it has completed: in_progress or cancelled (a run shows `cancelling`)',
        ),
    },
  ),
  read_lag: knob(
    reads,
    'What is created cannot be read or listed at first. Each object draws its own delay; items that were written together share it.',
    {
      ms: duration().describe('the longest delay, in milliseconds; up to 33000 were seen'),
      atLeastMs: duration().optional().describe('the shortest; default: as long as the longest'),
    },
  ),
  tied_order: knob(
    ['messages.list'],
    'Messages of the same second are listed in any order, which is the same each time.',
  ),
  stream_cut: knob(
    [...starts, 'responses.retrieve'],
    'The connection of a stream breaks; the run goes on.',
    {
      event: z
        .int(count)
        .min(0, count)
        .default(0)
        .describe('the first event that does not arrive, counted from 0 in this stream'),
      silently: z
        .boolean('write true or false')
        .default(false)
        .describe('true: the stream ends as if it were complete'),
    },
  ),
  replay_gone: knob(
    ['responses.retrieve'],
    'A background stream cannot be taken up again (400); reading the response still works.',
  ),
  lock_lingers: knob(
    ['responses.create'],
    'The conversation stays locked when the response is over.',
    { ms: duration().describe('for how long, in milliseconds') },
  ),
  reasoning_lost: knob(
    ['responses.create'],
    'The answer comes with a reasoning item that is missing from the conversation afterwards, so that the next response is refused.',
  ),
  failed_input_stays: knob(
    ['responses.create'],
    'The input of a failed or cancelled response stays in the conversation.',
  ),
}

export type FaultName = keyof typeof knobs
export const faultNames = Object.keys(knobs) as FaultName[]

/** A fault as it is asked for. */
export type FaultOf<N extends FaultName> = {
  [M in N]: { name: M } & z.input<(typeof knobs)[M]['schema']>
}[N]
export type Fault = FaultOf<FaultName>

/** A checked fault, with its defaults. */
export type CheckedFaultOf<N extends FaultName> = {
  [M in N]: { name: M } & z.output<(typeof knobs)[M]['schema']>
}[N]
export type CheckedFault = CheckedFaultOf<FaultName>

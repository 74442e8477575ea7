import { defaultModel as deterministic } from './default-model.ts'
import { checkFaults } from './faults/check.ts'
import type { CheckedFault, Fault } from './faults/knobs.ts'
import type { Model } from './model.ts'

/** How long a run spends in each phase, in milliseconds. */
export type Latency = {
  /** From creation (or tool outputs) to `in_progress`; default 5. */
  queuedMs: number
  /** From `in_progress` to the first token or tool call; default 20. */
  thinkMs: number
  /** Between two tokens (words); default 1. */
  perTokenMs: number
}

/** A run or response about to be worked on, as a failure hook sees it. */
export type RunView = {
  /** `run_…` or `resp_…` */
  id: string
  /** `thread_…` or `conv_…`; null for a response without a conversation. */
  threadId: string | null
  model: string
  metadata: Record<string, string>
}

export type RunFailure = {
  code: 'server_error' | 'rate_limit_exceeded' | 'invalid_prompt'
  message: string
}

export type InterceptedRequest = {
  method: string
  /** Without the query, e.g. `/v1/threads/thread_…/messages`. */
  path: string
  /** Parsed JSON; undefined when there is none. */
  body: unknown
}
/** What is answered instead of handling a request; `'reset'` cuts the connection without an answer. */
export type Interception =
  | { status: number; body: unknown; headers?: Record<string, string> }
  | 'reset'

export type EmulatorOptions = {
  /** Default 127.0.0.1. */
  host?: string
  /** Default 0: any free port. */
  port?: number
  latency?: Partial<Latency>
  /** When an unfinished Assistants run expires, in milliseconds after its creation; default 600000. */
  runExpiresMs?: number
  /** Any `asst_…` id counts as an assistant with the default model; default true. */
  anyAssistant?: boolean
  /** Model of assistants that were never created and of responses that only name a prompt; default `gpt-4o`. */
  defaultModel?: string
  /** What answers; the default is deterministic, see `default-model.ts`. */
  model?: Model
  /** Consulted before each API request is handled; returning nothing lets it pass. */
  onRequest?: (
    request: InterceptedRequest,
  ) => Interception | undefined | Promise<Interception | undefined>
  /** Ends a run as failed when it comes to think; null lets it pass. */
  failRun?: (run: RunView) => RunFailure | null | undefined
  /** What goes wrong, see `docs/faults.md`; default nothing. */
  faults?: readonly Fault[]
  /** Decides where faults with a probability strike; default random, see `Emulator.faults`. */
  seed?: number
}

export type Settings = Required<Omit<EmulatorOptions, 'latency' | 'faults' | 'seed'>> & {
  latency: Latency
  faults: CheckedFault[]
  seed: number | undefined
}

/** The options with their defaults, which also stand in for those given as undefined. */
export function settingsOf(options: EmulatorOptions): Settings {
  const { host = '127.0.0.1', port = 0, runExpiresMs = 600_000, anyAssistant = true } = options
  const { defaultModel = 'gpt-4o', model = deterministic } = options
  const { onRequest = () => undefined, failRun = () => null } = options
  const { faults = [], seed } = options
  const { queuedMs = 5, thinkMs = 20, perTokenMs = 1 } = options.latency ?? {}
  const latency = { queuedMs, thinkMs, perTokenMs }
  return {
    host,
    port,
    runExpiresMs,
    anyAssistant,
    defaultModel,
    model,
    onRequest,
    failRun,
    latency,
    faults: checkFaults(faults),
    seed,
  }
}

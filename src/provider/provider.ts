import type { MessageInput } from '../model/message.ts'
import type { NamelessRun, Run } from '../model/run.ts'
import type { ProviderName } from '../model/thread.ts'

/** What a server of this kind can do, so that nobody above the adapter asks for its name. */
export type Profile = {
  /** The provider refuses a second run and new messages while a run is active. */
  locks: boolean
  /** A run takes its message along in the same call, so both take effect or neither does. */
  runCarriesMessage: boolean
  /** Messages and runs carry our metadata tag, so that we can find them again after a crash. */
  tags: boolean
  /** Reads may lag behind writes by this long, in milliseconds; an empty list proves nothing before. */
  settleMs: number
}

export type CallOptions = {
  /** Aborts the call, or stops following a run; the run itself goes on at the provider. */
  signal: AbortSignal
  /** Deadline of one request in milliseconds (following a run may take as long as the run does). */
  timeoutMs: number
}

/** Parameters of a run in the provider's own names, without the message and without what inturn owns. */
export type RunParameters = Record<string, unknown>

export type RunRequest = {
  /** Sent along with the run where `profile.runCarriesMessage`; never set otherwise. */
  message?: MessageInput
  parameters: RunParameters
}

/** `tag` is our operation's id as a decimal string; it goes into the provider's metadata where it can. */
export interface Provider {
  readonly name: ProviderName
  readonly profile: Profile

  createThread(metadata: Record<string, string>, options: CallOptions): Promise<{ id: string }>
  /** Throws ProviderError `provider_thread_not_found` when the provider does not know the id. */
  retrieveThread(
    id: string,
    options: CallOptions,
  ): Promise<{ id: string; metadata: Record<string, string> }>
  updateThread(id: string, metadata: Record<string, string>, options: CallOptions): Promise<void>

  /** Id of the newest message or item; null when the thread holds none. */
  lastItem(threadId: string, options: CallOptions): Promise<string | null>
  addMessage(
    threadId: string,
    message: MessageInput,
    tag: string,
    options: CallOptions,
  ): Promise<{ id: string }>
  /** The message that this operation has added after `after` already (null: from the start); null when there is none. */
  findMessage(
    threadId: string,
    message: MessageInput,
    tag: string,
    after: string | null,
    options: CallOptions,
  ): Promise<{ id: string } | null>

  /**
   * Starts a run and follows it to its end. `onStarted` gets the run's id as soon as the provider
   * tells it (first stream event) and is awaited before anything else is read.
   */
  startRun(
    threadId: string,
    request: RunRequest,
    tag: string,
    onStarted: (runId: string) => Promise<void>,
    options: CallOptions,
  ): Promise<Run>
  /** The run that this operation has started already; null when none can be found (Responses cannot list). */
  findRun(threadId: string, tag: string, options: CallOptions): Promise<{ id: string } | null>
  /**
   * The run whose output stands after the item `after` (null: from the start), where runs cannot be
   * listed. Null when nothing of a run stands there, or where `findRun` would find it.
   */
  findAnswer(
    threadId: string,
    after: string | null,
    options: CallOptions,
  ): Promise<NamelessRun | null>
  /** Follows a run that was started before, by its id, to its end. */
  followRun(threadId: string, runId: string, options: CallOptions): Promise<Run>
  /** Leaves no tool call unanswered and no run active: cancels the run, or answers its calls with an error. */
  abandonRun(threadId: string, run: Run | NamelessRun, options: CallOptions): Promise<void>
}

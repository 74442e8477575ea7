import type { MessageInput } from '../model/message.ts'
import type { AnsweredCall, NamelessRun, Run, ToolCall } from '../model/run.ts'
import type { ItemPage, StoredItem } from '../model/stored-item.ts'
import type { RunEvent } from '../model/stream-event.ts'
import type { ProviderName } from '../model/thread.ts'

/** What a server of this kind can do, so that nobody above the adapter asks for its name. */
export type Profile = {
  /** The provider refuses a second run and new messages while a run is active. */
  locks: boolean
  /** A run takes its message along in the same call, so both take effect or neither does. */
  runCarriesMessage: boolean
  /** Messages and runs carry our metadata tag, so that we can find them again after a crash. */
  tags: boolean
  /**
   * A run that asks for outputs is over, and its calls stay open in the thread. Otherwise such a run
   * holds the thread until it gets them or is cancelled.
   */
  callsStayOpen: boolean
  /** From the start of such a run, how long it can wait for outputs, in milliseconds; null: for ever. */
  outputsWithinMs: number | null
  /** Most messages that one call adds, in their order. */
  messagesPerCall: number
  /** Messages of one second may be listed, and shown to the model, in any order. */
  tiesBySecond: boolean
  /** Items of a deleted thread are kept by the provider, so they are deleted first, one by one. */
  itemsOutliveThread: boolean
  /** Most messages that a thread can hold; null: no such limit is known. */
  messagesPerThread: number | null
  /** Reads may lag behind writes by this long, in milliseconds; an empty list proves nothing before. */
  settleMs: number
}

export type CallOptions = {
  /** Aborts the call, or stops following a run; the run itself goes on at the provider. */
  signal: AbortSignal
  /** Deadline of one request in milliseconds (following a run may take as long as the run does). */
  timeoutMs: number
  /**
   * Told what a run says, as it comes; never asked for anything, and never throws. What a run has said
   * that is followed by looking at it, only its end shows.
   */
  onEvent?: (event: RunEvent) => void
}

/** Parameters of a run in the provider's own names, without the message and without what inturn owns. */
export type RunParameters = Record<string, unknown>

export type RunRequest = {
  /** Sent along with the run where `profile.runCarriesMessage`, in this order; never set otherwise. */
  messages?: readonly MessageInput[]
  /** All that the run is given, where it goes on with a turn whose calls stay open (`profile.callsStayOpen`). */
  outputs?: readonly AnsweredCall[]
  parameters: RunParameters
}

/** What one look at a run shows. */
export type RunGlance = { isOver: boolean; tag: string | null }

/** What a thread shows of a run whose id was lost. */
export type Trace =
  /** Its answer; `messageId` is the first of the messages that it brought along, where there were any. */
  | { found: 'run'; run: NamelessRun; messageId: string | null }
  /** Its messages, without an answer. */
  | { found: 'message'; messageId: string }
  /** Somebody else has written as well, and nothing tells whose is whose. */
  | { found: 'ambiguous' }
  | { found: 'nothing' }

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

  /**
   * Id of the newest message or item; null when the thread holds none. `known` is the newest that the
   * caller knows: the answer is never an older one, whatever a read that lags shows.
   */
  lastItem(threadId: string, known: string | null, options: CallOptions): Promise<string | null>
  addMessage(
    threadId: string,
    message: MessageInput,
    tag: string,
    options: CallOptions,
  ): Promise<{ id: string }>
  /**
   * Adds up to `profile.messagesPerCall` messages in one call that takes effect as a whole or not at
   * all; gives their ids in the same order. Untagged: only where `profile.tags` is false.
   */
  addMessages(
    threadId: string,
    messages: readonly MessageInput[],
    options: CallOptions,
  ): Promise<string[]>
  /** The message that this operation has added after `after` already (null: from the start); null when there is none. */
  findMessage(
    threadId: string,
    message: MessageInput,
    tag: string,
    after: string | null,
    options: CallOptions,
  ): Promise<{ id: string } | null>

  /** The ids of these messages, where they stand one right behind the other after `after`; else null. */
  findMessages(
    threadId: string,
    messages: readonly MessageInput[],
    after: string | null,
    options: CallOptions,
  ): Promise<string[] | null>
  /** Whether the message is listed behind an earlier one; null where the list does not show both. */
  isListedBehind(
    threadId: string,
    messageId: string,
    earlierId: string,
    options: CallOptions,
  ): Promise<boolean | null>
  /** Takes a message or another item out of the thread. Harmless to repeat. */
  deleteItem(threadId: string, itemId: string, options: CallOptions): Promise<void>
  /**
   * One page of all that stands in the thread, oldest first, behind `after` (null: from the start). Throws
   * ProviderError `provider_thread_not_found`.
   */
  listItems(threadId: string, after: string | null, options: CallOptions): Promise<ItemPage>
  /**
   * Adds copies of up to `profile.messagesPerCall` items, as `copyable` has them, in one call that takes
   * effect as a whole or not at all; gives their ids in the same order. Tagged where `profile.tags`.
   */
  copyItems(
    threadId: string,
    items: readonly StoredItem[],
    tag: string,
    options: CallOptions,
  ): Promise<string[]>
  /** Deletes the thread; its items as well only where `profile.itemsOutliveThread` is false. Harmless to repeat. */
  deleteThread(threadId: string, options: CallOptions): Promise<void>

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
   * What stands of a run after the item `after` (null: from the start), where runs cannot be listed;
   * nothing where `findRun` would find it.
   */
  findAnswer(
    threadId: string,
    after: string | null,
    request: RunRequest,
    options: CallOptions,
  ): Promise<Trace>
  /**
   * Whether a run holds the thread, asked by a start of `parameters` that cannot take effect. Never
   * where a refusal would name the run.
   */
  isBusy(threadId: string, parameters: RunParameters, options: CallOptions): Promise<boolean>
  /**
   * The run that holds the thread, whoever has started it; its id is null where the provider does not
   * tell it. `model` is one that the thread's runs use, for a question that has to name one.
   */
  activeRun(
    threadId: string,
    model: string | null,
    options: CallOptions,
  ): Promise<{ id: string | null } | null>
  /** Looks at a run once. Throws ProviderError `run_not_found`. */
  lookAtRun(threadId: string, runId: string, options: CallOptions): Promise<RunGlance>
  /** Follows a run that was started before, by its id, to its end. */
  followRun(threadId: string, runId: string, options: CallOptions): Promise<Run>
  /** Cancels a run, and waits until it holds its thread no longer, however it ended. Harmless to repeat. */
  endRun(threadId: string, runId: string, options: CallOptions): Promise<Run>
  /** Which of these calls (null: of all in the thread) have no output yet. */
  openCalls(
    threadId: string,
    calls: readonly ToolCall[] | null,
    options: CallOptions,
  ): Promise<ToolCall[]>
  /**
   * Adds the outputs of up to 20 calls to the thread; returns the id of the last one. Throws ProviderError
   * `call_not_answerable` for a call whose output cannot be such a thing.
   */
  answerCalls(
    threadId: string,
    calls: readonly AnsweredCall[],
    options: CallOptions,
  ): Promise<{ id: string }>
  /**
   * Gives a run that waits for them the outputs of all its calls, and follows it to its end, or to the
   * calls that it asks for next. `onTaken` is awaited as soon as the provider says that the run goes on.
   * Throws ProviderError `outputs_not_accepted` where the run does not wait for them. Never where calls
   * stay open in the thread: there the outputs are what a new run is given.
   */
  submitOutputs(
    threadId: string,
    runId: string,
    calls: readonly AnsweredCall[],
    onTaken: () => Promise<void>,
    options: CallOptions,
  ): Promise<Run>
}

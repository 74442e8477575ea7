import type { ProviderName } from '../model/thread.ts'

/** What to do about a failed call. */
export type Decision =
  /** Send it again later: the provider refused it before doing anything. */
  | 'retry'
  /** It may have taken effect: look at the provider first. */
  | 'reconcile'
  /** A run that is not ours holds the thread: wait for it, then send again. */
  | 'wait_for_run'
  /** Nothing is wrong with the operation but the key may not do it now: no attempt is burnt. */
  | 'rest'
  /** The conversation itself is stuck and refuses every run until it is repaired. */
  | 'park'
  /** The request is wrong and stays wrong. */
  | 'fail'

/**
 * One row of the classification. All tests that a rule has must hold. A reply recognised by its text
 * gets our `code`; otherwise the provider's own code, where it has one, wins over it.
 */
export type RefusalRule = {
  status?: RegExp
  /** Against the error's `code` and `type`. */
  kind?: RegExp
  text?: RegExp
  provider?: ProviderName
  code: string
  decision: Decision
  /** Replaces the provider's words where they may hold a part of a key, or help nobody. */
  message?: string
  /** What to do about it, after the provider's words. */
  advice?: string
}

/** Error replies, most telling first. The texts are those on the wire; no document lists them. */
export const refusalRules: readonly RefusalRule[] = [
  // The thread is held by a run that is not ours.
  { kind: /^conversation_locked$/, code: 'conversation_locked', decision: 'wait_for_run' },
  {
    text: /already has an active (run|invocation)( (?<run>run_\w+))?/,
    code: 'thread_busy',
    decision: 'wait_for_run',
  },
  { text: /while a run (?<run>run_\w+) is active/, code: 'thread_busy', decision: 'wait_for_run' },

  // The conversation is stuck.
  { text: /^No tool output found for /, code: 'tool_output_missing', decision: 'park' },
  {
    text: /provided without its required ('reasoning'|following) item/,
    code: 'reasoning_item_missing',
    decision: 'park',
  },
  {
    kind: /^context_length_exceeded$/,
    code: 'context_length_exceeded',
    decision: 'fail',
    advice:
      'The conversation is too long for the model: have less of it read ("context_management" on Responses, "truncation_strategy" on Assistants), or name a model that takes more.',
  },

  // The key is resting.
  {
    kind: /^insufficient_quota$|credit_balance|spend_limit|usage_limit|billing/,
    code: 'quota_exhausted',
    decision: 'rest',
  },
  { kind: /^model_not_found$/, code: 'model_not_found', decision: 'fail' },
  {
    status: /401/,
    code: 'authentication_failed',
    decision: 'rest',
    message: 'The provider does not accept the API key.',
  },
  {
    status: /403/,
    code: 'permission_denied',
    decision: 'rest',
    message: 'The API key is not allowed to do this, or not from here.',
  },

  // Refused for now.
  { status: /429/, code: 'rate_limited', decision: 'retry' },
  {
    status: /503/,
    kind: /overloaded|^slow_down$|unavailable/,
    code: 'overloaded',
    decision: 'retry',
  },
  { status: /503/, text: /overloaded/i, code: 'overloaded', decision: 'retry' },
  { status: /408/, code: 'request_incomplete', decision: 'retry' },

  // The object is unknown.
  {
    status: /404/,
    text: /^(No thread found|(Thread|Conversation)\b.* not found)/,
    code: 'provider_thread_not_found',
    decision: 'fail',
  },
  {
    status: /400/,
    text: /^Invalid '(thread_id|conversation[\w.]*)'.*Expected an ID that begins with/,
    code: 'provider_thread_not_found',
    decision: 'fail',
  },
  {
    status: /404/,
    text: /^(No run found|(Run|Response)\b.* not found)/,
    code: 'run_not_found',
    decision: 'fail',
  },
  {
    status: /404/,
    text: /^(No assistant found|Assistant\b.* not found)/,
    code: 'assistant_not_found',
    decision: 'fail',
  },
  {
    status: /404/,
    text: /^(No message found|Item\b.* not found)/,
    code: 'item_not_found',
    decision: 'fail',
  },
  { status: /404/, text: /^No \w+( \w+)? found/, code: 'not_found', decision: 'fail' },
  {
    status: /404/,
    provider: 'assistants',
    code: 'assistants_api_gone',
    decision: 'fail',
    message:
      'This server does not offer the Assistants API (OpenAI removed it on 2026-08-26): set the base URL of one that does, or use the provider "responses".',
  },
  { status: /404/, code: 'not_found', decision: 'fail' },

  // The request does not fit.
  { text: /do not accept tool outputs/, code: 'outputs_not_accepted', decision: 'fail' },
  { text: /^Cannot cancel (run|response|an? )/, code: 'run_not_cancellable', decision: 'fail' },
  { status: /409/, code: 'conflict', decision: 'retry' },
  { status: /^4/, code: 'invalid_request', decision: 'fail' },
  { status: /^5/, code: 'provider_error', decision: 'reconcile' },
]

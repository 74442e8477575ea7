import {
  APIConnectionError,
  APIConnectionTimeoutError,
  APIError,
  APIUserAbortError,
  OpenAIError,
} from 'openai'
import type { ProviderName } from '../model/thread.ts'
import { type Decision, type RefusalRule, refusalRules } from './error-rules.ts'
import { ProviderError } from './provider-error.ts'

/** What is known of a failed call, without content, keys or headers: fit for `error` of an operation. */
export type ProviderFailure = {
  /** The provider's own code where it has one and we know no better, else one of ours. */
  code: string
  message: string
  decision: Decision
  /** HTTP status, when the provider answered at all. */
  status?: number
  /** The provider's `x-request-id`. */
  requestId?: string
  /** How long the provider asks us to wait, in milliseconds. */
  retryAfterMs?: number
  /** The foreign run that holds the thread, where the provider names it. */
  blockingRunId?: string
  /** False only where it is certain that the provider has never seen the request. */
  sent: boolean
}

/** Says what an error of the `openai` SDK means for the operation that ran into it. Never throws. */
export function classifyError(error: unknown, provider?: ProviderName): ProviderFailure {
  if (error instanceof ProviderError) return error.failure
  if (error instanceof APIUserAbortError || (error instanceof Error && error.name === 'AbortError'))
    return {
      code: 'aborted',
      message: 'The call was given up before the provider had answered.',
      decision: 'reconcile',
      sent: true,
    }
  if (error instanceof APIConnectionError) return classifyConnection(error)
  if (error instanceof APIError) return classifyReply(error, provider)
  // The SDK's own complaints (a malformed id, a missing key) come before it sends anything.
  if (error instanceof OpenAIError)
    return { code: 'invalid_request', message: error.message, decision: 'fail', sent: false }
  // A stream that breaks shows the socket's bare error.
  if (reasonOf(error) !== undefined) return classifyConnection(error)
  return {
    code: 'provider_error',
    message: `The provider's answer could not be read (${error instanceof Error ? error.name : typeof error}).`,
    decision: 'reconcile',
    sent: true,
  }
}

function classifyReply(error: APIError, provider?: ProviderName): ProviderFailure {
  const { status } = error
  const own = typeof error.code === 'string' ? error.code : undefined
  const text = providerText(error.error)
  const kinds = [own, error.type ?? undefined].filter((kind) => kind !== undefined)
  const rule = refusalRules.find(
    (rule) =>
      (rule.status === undefined || rule.status.test(String(status))) &&
      (rule.kind === undefined || kinds.some((kind) => rule.kind?.test(kind))) &&
      (rule.text === undefined || rule.text.test(text ?? '')) &&
      (rule.provider === undefined || rule.provider === provider),
  )
  const recognised = rule?.text !== undefined || rule?.provider !== undefined
  return {
    code: (!recognised && isCode(own) && own) || (rule?.code ?? 'provider_error'),
    message: messageOf(rule, text) ?? `The provider answered with HTTP status ${status}.`,
    decision: rule?.decision ?? 'reconcile',
    status,
    requestId: error.requestID ?? undefined,
    retryAfterMs: retryAfterMs(error.headers),
    blockingRunId: rule?.text?.exec(text ?? '')?.groups?.run,
    sent: true,
  }
}

function messageOf(rule: RefusalRule | undefined, text: string | undefined): string | undefined {
  const message = rule?.message ?? text
  return rule?.advice === undefined ? message : [message, rule.advice].filter(Boolean).join(' ')
}

function classifyConnection(error: unknown): ProviderFailure {
  // Refused by the client's own fetch, before the network.
  const refused = causeChain(error).find((cause) => cause instanceof ProviderError)
  if (refused) return refused.failure
  const reason = reasonOf(error)
  const detail = reason === undefined ? '' : ` (${reason})`
  if (causeChain(error).some(isBeforeSending))
    return {
      code: 'provider_unreachable',
      message: `The provider cannot be reached${detail}.`,
      decision: 'retry',
      sent: false,
    }
  if (error instanceof APIConnectionTimeoutError)
    return {
      code: 'provider_timeout',
      message: 'The provider did not answer in time.',
      decision: 'reconcile',
      sent: true,
    }
  return {
    code: 'connection_lost',
    message: `The connection broke before the provider had answered${detail}.`,
    decision: 'reconcile',
    sent: true,
  }
}

type Cause = { code?: string; syscall?: string; cause?: unknown; errors?: unknown[] }

/** An error, its causes, and the attempts of each that went to several addresses. */
function causeChain(error: unknown): Cause[] {
  if (typeof error !== 'object' || error === null) return []
  const { cause, errors = [] } = error as Cause
  return [error as Cause, ...errors.flatMap(causeChain), ...causeChain(cause)]
}

/** The socket's own code, e.g. `ECONNRESET`. */
const reasonOf = (error: unknown) =>
  causeChain(error).find(({ code }) => typeof code === 'string')?.code

/** The name did not resolve, the connection did not open or its certificate was refused. */
function isBeforeSending({ code, syscall }: Cause): boolean {
  if (syscall === 'connect' || syscall === 'getaddrinfo') return true
  return /^UND_ERR_CONNECT_TIMEOUT$|^ERR_TLS_|CERT|^UNABLE_TO_VERIFY/.test(code ?? '')
}

const messageLengthMax = 500

/** The provider's words, without what looks like a key (its refusals quote parts of one). */
function providerText(body: unknown): string | undefined {
  const message =
    typeof body === 'object' && body !== null && 'message' in body ? body.message : body
  if (typeof message !== 'string') return undefined
  return message.replace(/\b(sk|sess)-[\w*.-]+/g, '$1-…').slice(0, messageLengthMax)
}

const isCode = (code: string | undefined) => /^[a-z][a-z0-9_]{0,63}$/.test(code ?? '')

/** `retry-after-ms`, else `retry-after` in seconds or as an HTTP date. */
function retryAfterMs(headers: Headers | undefined): number | undefined {
  const milliseconds = Number.parseFloat(headers?.get('retry-after-ms') ?? '')
  if (milliseconds >= 0) return milliseconds
  const value = headers?.get('retry-after') ?? ''
  const wait = /^[\d.]+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isNaN(wait) ? undefined : Math.max(0, Math.round(wait))
}

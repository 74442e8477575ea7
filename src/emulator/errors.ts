import { ApiError, type ErrorDetails, type Holder } from './api-error.ts'

const refusal = (message: string, more?: ErrorDetails): ApiError => new ApiError(400, message, more)

/* Locks: 400, not 409, so that no SDK retries them by itself. */

export const runConflict = (threadId: string, holder: Holder): ApiError =>
  refusal(`Thread ${threadId} already has an active run ${holder.runId}.`, {
    conflict: { kind: 'run_conflict', ...holder },
  })

export const messageConflict = (threadId: string, holder: Holder): ApiError =>
  refusal(`Can't add messages to ${threadId} while a run ${holder.runId} is active.`, {
    conflict: { kind: 'message_conflict', ...holder },
  })

export const conversationLocked = (holder: Holder, probe = false): ApiError =>
  refusal(
    'Another process is currently operating on this conversation. Please retry in a few seconds.',
    {
      param: 'conversation',
      code: 'conversation_locked',
      conflict: { kind: 'conversation_locked', ...holder, probe },
    },
  )

/* Whole requests */

export const missingKey = (): ApiError =>
  new ApiError(
    401,
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API from your browser and are prompted for a username and password. You can obtain an API key from https://platform.openai.com/account/api-keys.",
  )

export const missingBetaHeader = (): ApiError =>
  refusal(
    "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by setting the header 'OpenAI-Beta: assistants=v2'.",
  )

export const invalidUrl = (method: string, path: string): ApiError =>
  new ApiError(404, `Invalid URL (${method} ${path})`)

export const invalidJson = (): ApiError =>
  refusal('We could not parse the JSON body of your request.')

export const malformedId = (param: string, id: string, prefix: string): ApiError =>
  refusal(`Invalid '${param}': '${id}'. Expected an ID that begins with '${prefix}'.`, {
    param,
    code: 'invalid_value',
  })

/* Assistants */

/** `noun` is thread, message, run, run step or assistant. */
export const notFound = (noun: string, id: string): ApiError =>
  new ApiError(404, `No ${noun} found with id '${id}'.`)

export const emptyThread = (): ApiError =>
  refusal('Run creation requires a Thread with a user message or an assistant with instructions.', {
    code: 'invalid_thread',
  })

export const cannotCancelRun = (status: string): ApiError =>
  refusal(`Cannot cancel run with status '${status}'.`)

export const cannotUpdateRun = (status: string): ApiError =>
  refusal(`Cannot update run with status '${status}'.`)

export const noToolOutputsNow = (status: string): ApiError =>
  refusal(`Runs in status "${status}" do not accept tool outputs.`)

const listed = (ids: readonly string[]): string => `[${ids.map((id) => `'${id}'`).join(', ')}]`

export const wrongToolOutputs = (expected: readonly string[], got: readonly string[]): ApiError =>
  refusal(`Expected tool outputs for call_ids ${listed(expected)}, got ${listed(got)}`)

/* Conversations and Responses */

/** `noun` is Conversation, Response or Item. */
export const withIdNotFound = (noun: string, id: string): ApiError =>
  new ApiError(404, `${noun} with id '${id}' not found.`)

export const previousResponseNotFound = (id: string): ApiError =>
  refusal(`Previous response with id '${id}' not found.`, {
    param: 'previous_response_id',
    code: 'previous_response_not_found',
  })

export const mutuallyExclusive = (one: string, other: string): ApiError =>
  refusal(
    `Mutually exclusive parameters: ''. Ensure you are only providing one of: '${one}' or '${other}'.`,
    { code: 'mutually_exclusive_parameters' },
  )

export const missingParameter = (param: string): ApiError =>
  refusal(`Missing required parameter: '${param}'.`, { param, code: 'missing_required_parameter' })

export const missingInput = (): ApiError =>
  refusal(
    'One of "input" or "previous_response_id" or \'prompt\' or \'conversation\' must be provided.',
    { param: 'input', code: 'missing_required_parameter' },
  )

export const unansweredCall = (callId: string): ApiError =>
  refusal(`No tool output found for function call ${callId}.`, { param: 'input' })

export const uncalledOutput = (callId: string): ApiError =>
  refusal(`No tool call found for function call output with call_id ${callId}.`, {
    param: 'input',
  })

export const reasoningMissing = (id: string, type: string, reasoningId: string): ApiError =>
  refusal(
    `Item '${id}' of type '${type}' was provided without its required 'reasoning' item: '${reasoningId}'.`,
    { param: 'input' },
  )

export const reasoningUnfollowed = (id: string): ApiError =>
  refusal(`Item '${id}' of type 'reasoning' was provided without its required following item.`, {
    param: 'input',
  })

export const duplicateItem = (id: string): ApiError =>
  refusal(
    `Duplicate item found with id ${id}. Remove duplicate items from your input and try again.`,
    { param: 'input' },
  )

export const cannotCancelResponse = (state: string): ApiError =>
  refusal(`Cannot cancel a ${state} response.`)

export const notStreamable = (parameter: 'background' | 'stream'): ApiError =>
  refusal(`This response cannot be streamed because it was not created with ${parameter}=true.`, {
    param: 'stream',
    code: 'invalid_request_error',
  })

export const replayGone = (): ApiError =>
  refusal('This response can no longer be streamed because its events have expired.', {
    param: 'stream',
    code: 'invalid_request_error',
  })

import type { ResponseInputItem } from 'openai/resources/responses/responses'
import type { AnsweredCall, CallOutput } from '../model/run.ts'
import type { RunParameters, RunRequest } from './provider.ts'
import { ProviderError } from './provider-error.ts'
import { toInput } from './responses-input.ts'
import { runBody } from './run-parameters.ts'

/**
 * Body and input of a response. One that goes on with a turn has the outputs for its whole input, and is
 * forced to no call: a `tool_choice` that forced the first one would have it call for ever.
 */
export function continued(
  { messages = [], outputs, parameters }: RunRequest,
  tag: string,
): { body: RunParameters; input: ResponseInputItem[] } {
  const body = runBody('responses', parameters, tag)
  if (outputs === undefined) return { body, input: toInput(messages, body.input) }
  const { tool_choice, ...rest } = body
  const choice = unforced(tool_choice)
  const isSaid = choice !== undefined && choice !== null
  return { body: isSaid ? { ...rest, tool_choice: choice } : rest, input: outputs.map(outputItem) }
}

/** `auto` where some call is forced; which tools are allowed stays. */
function unforced(choice: unknown): unknown {
  if (choice === 'required') return 'auto'
  if (typeof choice !== 'object' || choice === null) return choice
  const { type } = choice as { type?: string }
  return type === 'allowed_tools' ? { ...choice, mode: 'auto' } : 'auto'
}

/** An output as the item that answers a call of its type. Throws `call_not_answerable`. */
export function outputItem({ type, call_id, output, is_error }: AnsweredCall): ResponseInputItem {
  const item = items[type]?.(call_id, output, is_error)
  if (item) return item as ResponseInputItem
  throw new ProviderError({
    code: 'call_not_answerable',
    message: `The output of ${call_id} (${type}) cannot be ${is_error ? 'an error' : 'what was given'}: answer it at the provider.`,
    decision: 'park',
    sent: false,
  })
}

type ItemOf = (call_id: string, output: CallOutput, isError: boolean) => object | undefined

const items: Record<string, ItemOf> = {
  function_call: (call_id, output) => ({ type: 'function_call_output', call_id, output }),
  custom_tool_call: (call_id, output) => ({ type: 'custom_tool_call_output', call_id, output }),
  local_shell_call: (id, output) => ({
    type: 'local_shell_call_output',
    id,
    output: asText(output),
  }),
  apply_patch_call: (call_id, output, isError) => ({
    type: 'apply_patch_call_output',
    call_id,
    status: isError ? 'failed' : 'completed',
    output: asText(output),
  }),
  shell_call: (call_id, output, isError) => ({
    type: 'shell_call_output',
    call_id,
    output: typeof output === 'string' ? [shellOutput(output, isError)] : output,
  }),
  // A screenshot, which no text can be.
  computer_call: (call_id, output) =>
    typeof output === 'string'
      ? undefined
      : { type: 'computer_call_output', call_id, output: output[0] },
}

const shellOutput = (text: string, isError: boolean) => ({
  stdout: isError ? '' : text,
  stderr: isError ? text : '',
  outcome: { type: 'exit', exit_code: isError ? 1 : 0 },
})

const asText = (output: CallOutput): string =>
  typeof output === 'string' ? output : JSON.stringify(output)

import type { RunParameters } from '../provider/provider.ts'
import { runBody } from '../provider/run-parameters.ts'
import { findAssistant } from '../store/assistants.ts'
import { whileLocked } from '../store/while-locked.ts'
import { type OperationContext, tagOf } from './context.ts'
import type { RunParameters as RunData } from './data/run-parameters.ts'
import type { ToolDeadline } from './data/tool-deadline.ts'
import { Refusal } from './refusal.ts'

/**
 * The parameters of a run as its provider takes them. `responses` has no assistants, so there
 * `assistant_id` names a row of our table, and what `data` says wins over it. Whatever the provider
 * could never take is refused here, before anything is sent.
 */
export async function resolveAssistant(
  context: OperationContext,
  { tool_deadline_ms, on_tool_deadline, ...data }: RunData & ToolDeadline,
): Promise<RunParameters> {
  const parameters = context.provider.name === 'responses' ? await fromTable(context, data) : data
  if (context.provider.name === 'assistants' && data.assistant_id === undefined)
    throw new Refusal(
      'assistant_missing',
      'A run of the provider "assistants" needs an "assistant_id", also where it names a model.',
    )
  runBody(context.provider.name, parameters, tagOf(context))
  return parameters
}

async function fromTable(
  { pool, call }: OperationContext,
  { assistant_id, ...said }: RunData,
): Promise<RunParameters> {
  if (assistant_id === undefined) return said
  const assistant = await whileLocked(call.signal, () => findAssistant(pool, assistant_id))
  if (assistant === null)
    throw new Refusal(
      'assistant_not_found',
      `There is no assistant ${JSON.stringify(assistant_id)}. On the provider "responses" it is a row of the table "assistants": add it with \`inturn assistants add\`, or INSERT INTO assistants (id, model, instructions) VALUES (…).`,
    )
  const { model, prompt, instructions, tools, parameters } = assistant
  const row = Object.entries({ ...parameters, model, prompt, instructions, tools })
  return { ...Object.fromEntries(row.filter(([, value]) => value !== null)), ...said }
}

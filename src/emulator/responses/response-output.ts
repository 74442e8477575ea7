import { paced } from '../clock.ts'
import { longId, shortId } from '../ids.ts'
import type { ModelCall } from '../model.ts'
import { tokens } from '../tokens.ts'
import type { Item } from './objects.ts'
import { emit } from './response-events.ts'
import type { ResponseState } from './state.ts'

/** Writes the answer token by token; `whole` is false when `max_output_tokens` cut it short. */
export async function writeMessage(
  state: ResponseState,
  text: string,
  perTokenMs: number,
): Promise<{ written: number; whole: boolean }> {
  const { response, stop } = state
  const part = { type: 'output_text' as const, annotations: [], logprobs: [], text: '' }
  const item = {
    id: longId('msg'),
    type: 'message' as const,
    status: 'in_progress' as Extract<Item, { type: 'message' }>['status'],
    content: [] as Array<typeof part>,
    role: 'assistant' as const,
  }
  const output_index = response.output.push(item) - 1
  const place = { item_id: item.id, output_index, content_index: 0 }
  emit(state, { type: 'response.output_item.added', output_index, item })
  emit(state, { type: 'response.content_part.added', ...place, part })
  item.content.push(part)
  const all = tokens(text)
  const allowed = all.slice(0, response.max_output_tokens ?? all.length)
  for await (const delta of paced(allowed, perTokenMs, stop.signal)) {
    part.text += delta
    emit(state, { type: 'response.output_text.delta', ...place, delta, logprobs: [] })
  }
  const whole = allowed.length === all.length
  item.status = whole ? 'completed' : 'incomplete'
  emit(state, { type: 'response.output_text.done', ...place, text: part.text, logprobs: [] })
  emit(state, { type: 'response.content_part.done', ...place, part })
  emit(state, { type: 'response.output_item.done', output_index, item })
  return { written: allowed.length, whole }
}

/** Writes a function call; gives the tokens written. */
export async function writeCall(
  state: ResponseState,
  call: ModelCall,
  perTokenMs: number,
): Promise<number> {
  const { response, stop } = state
  const item = {
    id: longId('fc'),
    type: 'function_call' as const,
    status: 'in_progress' as 'in_progress' | 'completed',
    arguments: '',
    call_id: shortId('call'),
    name: call.name,
  }
  const output_index = response.output.push(item) - 1
  const place = { item_id: item.id, output_index }
  emit(state, { type: 'response.output_item.added', output_index, item })
  const all = tokens(call.arguments)
  for await (const delta of paced(all, perTokenMs, stop.signal)) {
    item.arguments += delta
    emit(state, { type: 'response.function_call_arguments.delta', ...place, delta })
  }
  item.status = 'completed'
  emit(state, {
    type: 'response.function_call_arguments.done',
    ...place,
    arguments: item.arguments,
  })
  emit(state, { type: 'response.output_item.done', output_index, item })
  return all.length
}

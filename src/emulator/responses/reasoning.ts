import { reasoningMissing, reasoningUnfollowed } from '../errors.ts'
import { longId } from '../ids.ts'
import type { Item, ServedResponse } from './objects.ts'
import { emit } from './response-events.ts'
import type { ResponseState } from './state.ts'

/** What each answer or call was thought up with. */
const reasoningOf = new WeakMap<Item, Item>()

export const asksForReasoning = ({ reasoning }: ServedResponse): boolean =>
  reasoning?.effort != null && reasoning.effort !== 'none'

/** Writes a reasoning item; what the response writes from now on belongs to it. */
export function writeReasoning(state: ResponseState): Item {
  const item: Item = { id: longId('rs'), type: 'reasoning', content: [], summary: [] }
  const output_index = state.response.output.push(item) - 1
  emit(state, { type: 'response.output_item.added', output_index, item })
  emit(state, { type: 'response.output_item.done', output_index, item })
  return item
}

/** All that `output` holds belongs to its reasoning item. */
export function pairUp(output: readonly Item[], reasoning: Item): void {
  for (const item of output) if (item !== reasoning) reasoningOf.set(item, reasoning)
}

/** Neither half of a pair may stand without the other. */
export function checkPairs(items: readonly Item[]): void {
  const present = new Set(items)
  for (const [index, item] of items.entries()) {
    const reasoning = reasoningOf.get(item)
    if (reasoning && !present.has(reasoning))
      throw reasoningMissing(item.id, item.type, reasoning.id)
    if (item.type === 'reasoning' && !isWritten(items[index + 1]))
      throw reasoningUnfollowed(item.id)
  }
}

/** By a model, not said to it. */
const isWritten = (item: Item | undefined): boolean =>
  item !== undefined &&
  item.type !== 'function_call_output' &&
  !(item.type === 'message' && item.role !== 'assistant')

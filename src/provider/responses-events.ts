import type { ResponseStreamEvent } from 'openai/resources/responses/responses'
import type { CallOptions } from './provider.ts'
import { openCallsAmong } from './responses-calls.ts'

/** Tells what an event of a response's stream says, in our words. */
export function tellResponseEvent(
  event: ResponseStreamEvent,
  tell: CallOptions['onEvent'] = () => {},
): void {
  switch (event.type) {
    case 'response.content_part.added':
      if (event.part.type === 'output_text') tell({ type: 'text', delta: '', part: partOf(event) })
      break
    case 'response.output_text.delta':
      tell({ type: 'text', delta: event.delta, part: partOf(event) })
      break
    case 'response.refusal.delta':
      tell({ type: 'refusal', delta: event.delta })
      break
    case 'response.reasoning_summary_text.delta':
    case 'response.reasoning_text.delta':
      tell({ type: 'reasoning', delta: event.delta })
      break
    case 'response.output_item.done':
      for (const { call_id, name, arguments: args } of openCallsAmong([event.item]))
        tell({ type: 'tool_call', call_id, name, arguments: args })
  }
}

const partOf = (place: { output_index: number; content_index: number }): string =>
  `${place.output_index}.${place.content_index}`

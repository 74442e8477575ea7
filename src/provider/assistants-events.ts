import type { AssistantStreamEvent } from 'openai/resources/beta/assistants'
import type { CallOptions } from './provider.ts'

/** Tells what an event of a run's stream says, in our words. */
export function tellAssistantEvent(
  { event, data }: AssistantStreamEvent,
  tell: CallOptions['onEvent'] = () => {},
): void {
  if (event === 'thread.message.delta') {
    for (const content of data.delta.content ?? []) {
      const part = `${data.id}.${content.index}`
      if (content.type === 'text') tell({ type: 'text', delta: content.text?.value ?? '', part })
      if (content.type === 'refusal') tell({ type: 'refusal', delta: content.refusal ?? '' })
    }
  } else if (event === 'thread.run.requires_action') {
    for (const { id, function: called } of data.required_action?.submit_tool_outputs.tool_calls ??
      [])
      tell({ type: 'tool_call', call_id: id, name: called.name, arguments: called.arguments })
  }
}

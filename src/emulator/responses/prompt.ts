import type { FunctionTool, Tool } from 'openai/resources/responses/responses'
import type { ModelRequest, Turn } from '../model.ts'
import { itemText } from './input.ts'
import type { Item, ServedResponse } from './objects.ts'
import type { ResponseState } from './state.ts'

/** What the model sees: what came before, then the input. */
export function promptOf({ response, before, input }: ResponseState): ModelRequest {
  return {
    instructions: typeof response.instructions === 'string' ? response.instructions : null,
    history: [...before(), ...input].flatMap(turnOf),
    tools: response.tools.filter(isFunction).map(({ name, description, parameters }) => ({
      name,
      description: description ?? '',
      parameters: parameters ?? {},
    })),
    toolChoice: toolChoiceOf(response.tool_choice),
    parallelToolCalls: response.parallel_tool_calls,
  }
}

const isFunction = (tool: Tool): tool is FunctionTool => tool.type === 'function'

function turnOf(item: Item): Turn[] {
  switch (item.type) {
    case 'message':
      return [{ role: item.role, text: itemText(item.content) } as Turn]
    case 'function_call':
      return [
        { role: 'tool_call', callId: item.call_id, name: item.name, arguments: item.arguments },
      ]
    case 'function_call_output':
      return [{ role: 'tool_output', callId: item.call_id ?? '', output: itemText(item.output) }]
    default:
      return []
  }
}

function toolChoiceOf(choice: ServedResponse['tool_choice']): ModelRequest['toolChoice'] {
  if (typeof choice === 'string') return choice
  return choice.type === 'function' ? { name: choice.name } : 'auto'
}

import type { AssistantTool, FunctionTool } from 'openai/resources/beta/assistants'
import type { ModelRequest } from '../model.ts'
import { messageText } from './messages.ts'
import type { ServedRun } from './objects.ts'
import type { RunState } from './state.ts'

/** What the model sees: the thread's messages, then the calls and outputs of this run. */
export function promptOf({ run, thread, turns }: RunState): ModelRequest {
  return {
    instructions: run.instructions,
    history: [
      ...thread.messages.map((message) => ({ role: message.role, text: messageText(message) })),
      ...turns,
    ],
    tools: run.tools.filter(isFunction).map(({ function: own }) => ({
      name: own.name,
      description: own.description ?? '',
      parameters: own.parameters ?? {},
    })),
    toolChoice: toolChoiceOf(run.tool_choice),
    parallelToolCalls: run.parallel_tool_calls,
  }
}

const isFunction = (tool: AssistantTool): tool is FunctionTool => tool.type === 'function'

function toolChoiceOf(choice: ServedRun['tool_choice']): ModelRequest['toolChoice'] {
  if (choice === null) return 'auto'
  if (typeof choice === 'string') return choice
  return choice.function ? { name: choice.function.name } : 'auto'
}

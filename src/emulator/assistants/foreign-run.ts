import type { Context } from '../context.ts'
import { runConflict } from '../errors.ts'
import { type ForeignRun, foreignInstructions } from '../foreign-run.ts'
import { newAssistant } from './assistants.ts'
import { addMessage } from './messages.ts'
import { start } from './run-create.ts'
import { activeRun, holderOf, type ThreadState } from './state.ts'

/** A run that nobody asked for by request; refused like any other while one is active. */
export function startForeignRun(
  context: Context,
  thread: ThreadState,
  { ms, message }: ForeignRun,
): string {
  const blocking = activeRun(thread)
  if (blocking) throw runConflict(thread.thread.id, holderOf(blocking))
  const { defaultModel: model } = context.settings
  const assistant = newAssistant('asst_foreign', { model, instructions: foreignInstructions })
  if (message !== undefined) addMessage(context, thread, { role: 'user', content: message })
  const origin = { foreignMs: ms }
  return start(context, thread, assistant, { assistant_id: assistant.id }, origin).run.id
}

import type { Handler } from './context.ts'
import type { AddMessageAndRun } from './data/add-message-and-run.ts'
import { runTurn } from './run-turn.ts'

export const addMessageAndRun: Handler<AddMessageAndRun> = (context) => {
  const { message, ...data } = context.data
  return runTurn({ ...context, data }, [message])
}

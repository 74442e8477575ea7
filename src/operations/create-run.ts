import type { Handler } from './context.ts'
import type { CreateRun } from './data/create-run.ts'
import { runTurn } from './run-turn.ts'

export const createRun: Handler<CreateRun> = (context) => runTurn(context, [])

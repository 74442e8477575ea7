import type { AssistantStreamEvent } from 'openai/resources/beta/assistants'
import type { Run } from 'openai/resources/beta/threads/runs/runs'
import type { RunStep } from 'openai/resources/beta/threads/runs/steps'
import type { ServedRun, ServedStep } from './objects.ts'
import type { RunState } from './state.ts'

type Name = AssistantStreamEvent['event']
type Data<N extends Name> = Extract<AssistantStreamEvent, { event: N }>['data']
type Served<D> = D extends Run ? ServedRun : D extends RunStep ? ServedStep : D

/** Adds an event to the run's stream, if somebody asked for one. */
export function emit<N extends Name>({ log }: RunState, event: N, data: Served<Data<N>>): void {
  log?.push(event, data)
}

/** A stream ends with its run, and also when the run waits for tool outputs. */
export function endStream(state: RunState): void {
  state.log?.push('done', '[DONE]')
  state.log?.end()
  state.log = null
}

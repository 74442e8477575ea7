import type { NamelessRun, Run, RunStatus } from '../model/run.ts'
import type { LoggedEvent, RunEvent } from '../model/stream-event.ts'
import { storable } from '../store/jsonb-text.ts'

/** Where a stream is written to, and what is there already. */
export type StreamSink = {
  /** Written by earlier claims of the operation; null: it cannot be known. */
  earlier: readonly LoggedEvent[] | null
  write: (event: LoggedEvent) => void
}

/** For an operation that nobody can read the stream of. */
export const noSink: StreamSink = { earlier: [], write: () => {} }

/** The run whose text is being written. */
type Telling = {
  /** Undefined: nobody knows. */
  id: string | null | undefined
  /** Null until its end was told. */
  status: RunStatus | null
  /** All its text so far; null: it has none. */
  text: string | null
  calls: Set<string>
}

/**
 * What the runs of one operation say, as it is written down: each run begins, speaks and ends once,
 * through however many claims, and what it said is at its end all that it has said.
 */
export class OperationStream {
  readonly #write: StreamSink['write']
  readonly #isReplaced: (runId: string) => boolean
  #run: Telling | null = null
  #part: string | undefined

  /** `isReplaced` says of a run that it failed and another one takes its place. */
  constructor({ earlier, write }: StreamSink, isReplaced: (runId: string) => boolean) {
    this.#write = write
    this.#isReplaced = isReplaced
    if (earlier === null) this.#run = newTelling(undefined)
    for (const event of earlier ?? []) this.#note(event)
  }

  /** All text so far of the latest run; null: it has none. */
  get text(): string | null {
    return this.#run?.text || null
  }

  /** Takes in what a run says while it goes on. */
  said(event: RunEvent): void {
    switch (event.type) {
      case 'run_started':
        this.#start(event.run_id)
        break
      case 'text':
        this.#tellText(event)
        break
      case 'tool_call':
        if (!this.#run?.calls.has(event.call_id)) this.#tell(event)
        break
      default:
        if (event.delta !== '') this.#tell(event)
    }
  }

  /** Takes in a run at its end: what its stream has left out is told now. */
  ended(run: Run | NamelessRun): void {
    const { status, tool_calls } = run
    const told = this.#run
    const isTold = told?.id === run.id && told?.status === status
    if (isTold && tool_calls.every(({ call_id }) => told.calls.has(call_id))) return
    this.#start(run.id)
    this.#tellRest(run)
    for (const { call_id, name, arguments: args } of tool_calls)
      this.said({ type: 'tool_call', call_id, name, arguments: args })
    this.#tell({ type: 'run_ended', run_id: run.id, status })
  }

  #start(id: string | null): void {
    const before = this.#run
    this.#part = undefined
    if (before === null) return this.#tell({ type: 'run_started', run_id: id })
    // It goes on, for another round or by another dispatcher.
    if (before.id === id) return void (before.status = null)
    const isReplaced = before.id == null || this.#isReplaced(before.id)
    if (isReplaced || before.status !== 'requires_action') this.#tell({ type: 'restarted' })
    this.#tell({ type: 'run_started', run_id: id })
  }

  #tellText({ part, delta }: RunEvent & { type: 'text' }): void {
    const isNext = part !== this.#part && this.#run !== null && this.#run.text !== null
    this.#part = part
    this.#tell({ type: 'text', delta: isNext ? `\n${delta}` : delta })
  }

  /** A stream that broke has told only a part, and one that was looked at from outside nothing. */
  #tellRest({ id, status, text }: Run | NamelessRun): void {
    const said = storable(this.#run?.text ?? '')
    const whole = storable(text ?? '')
    if (whole.startsWith(said)) return this.#tell({ type: 'text', delta: whole.slice(said.length) })
    // Of a run that did not end well, the provider may keep less than it has said.
    if (!isWhole(status)) return
    this.#tell({ type: 'restarted' })
    this.#tell({ type: 'run_started', run_id: id })
    this.#tell({ type: 'text', delta: whole })
  }

  #tell(event: LoggedEvent): void {
    this.#note(event)
    if (!('delta' in event) || event.delta !== '') this.#write(event)
  }

  #note(event: LoggedEvent): void {
    if (event.type === 'run_started') this.#run = newTelling(event.run_id)
    if (this.#run === null) return
    if (event.type === 'text') this.#run.text = (this.#run.text ?? '') + event.delta
    if (event.type === 'tool_call') this.#run.calls.add(event.call_id)
    if (event.type === 'run_ended') this.#run.status = event.status
  }
}

const newTelling = (id: Telling['id']): Telling => ({
  id,
  status: null,
  text: null,
  calls: new Set(),
})

const isWhole = (status: RunStatus): boolean =>
  status === 'completed' || status === 'incomplete' || status === 'requires_action'

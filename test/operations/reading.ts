import type pg from 'pg'
import { onTestFinished } from 'vitest'
import { Inturn, type StreamEvent } from '../../src/index.ts'

/** A client that is closed after the test. */
export function client(pool: pg.Pool): Inturn {
  const inturn = new Inturn({ pool })
  onTestFinished(() => inturn.close())
  return inturn
}

/** All events of an operation, until its stream is over. */
export async function readAll(
  inturn: Inturn,
  id: number,
  options?: { from?: number; signal?: AbortSignal },
): Promise<StreamEvent[]> {
  return collect((await inturn.operation(id)).stream(options))
}

export async function collect(source: AsyncIterable<StreamEvent>): Promise<StreamEvent[]> {
  const events: StreamEvent[] = []
  for await (const event of source) events.push(event)
  return events
}

/** The text that counts: that of the latest run. */
export function textOf(events: readonly StreamEvent[]): string {
  const begin = events.findLastIndex(({ type }) => type === 'run_started')
  return events
    .slice(begin)
    .flatMap((event) => (event.type === 'text' ? [event.delta] : []))
    .join('')
}

/** The types of these events; neighbours of one type are one, because only time divides text. */
export const story = (events: readonly StreamEvent[]): string[] =>
  events.map(({ type }) => type).filter((type, i, types) => type !== types[i - 1])

/** What has come of a stream so far, and a way to wait for more. */
export class Reader {
  readonly events: StreamEvent[] = []
  readonly #source: AsyncIterator<StreamEvent>

  constructor(source: AsyncIterable<StreamEvent>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** Reads on until an event of this type has come. */
  async until(type: StreamEvent['type']): Promise<this> {
    for (;;) {
      const { value, done } = await this.#source.next()
      if (done) throw new Error(`The stream ended without an event ${type}.`)
      this.events.push(value)
      if (value.type === type) return this
    }
  }
}

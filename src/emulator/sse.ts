/** One server-sent event; `data` is what it was when the event happened. */
export type ServerSentEvent = { event: string; data: string }

/** The events of one stream: read by any number of clients, from any position, before or after its end. */
export class EventLog {
  readonly #events: ServerSentEvent[] = []
  #ended = false
  #news = Promise.withResolvers<void>()

  get length(): number {
    return this.#events.length
  }

  push(event: string, data: object | string): void {
    // Serialized at once, because the object goes on changing.
    this.#events.push({ event, data: typeof data === 'string' ? data : JSON.stringify(data) })
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  async *read(from = 0): AsyncGenerator<ServerSentEvent> {
    for (let next = from; ; ) {
      for (let event = this.#events[next]; event; event = this.#events[++next]) yield event
      if (this.#ended) return
      await this.#news.promise
    }
  }

  #wake(): void {
    this.#news.resolve()
    this.#news = Promise.withResolvers<void>()
  }
}

export const formatEvent = ({ event, data }: ServerSentEvent): string =>
  `event: ${event}\ndata: ${data}\n\n`

import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

export type Relayed = { method: string; path: string; body: string; headers: IncomingHttpHeaders }

export type Relay = {
  url: string
  /** Everything that was passed on, oldest first. */
  requests: Relayed[]
  /**
   * The answer to a request is lost from this text on: '' loses all of it (the server has acted),
   * undefined loses nothing.
   */
  loseFrom: (request: Relayed) => string | undefined
  /** What becomes of a connection at that point: it breaks, or it stays open and silent. */
  loss: 'break' | 'silence'
  close: () => Promise<void>
}

/** Passes requests on to `target` over real sockets, and breaks connections where it is told to. */
export async function startRelay(target: string): Promise<Relay> {
  const server = createServer(async (request, response) => {
    const { method = '', url: path = '', headers } = request
    const relayed = { method, path, headers, body: await text(request) }
    relay.requests.push(relayed)
    const answer = await fetch(new URL(path, target), {
      method,
      headers: pick(headers, ['authorization', 'content-type', 'openai-beta', 'accept']),
      body: relayed.body || undefined,
    }).catch(() => null)
    // The server has cut the connection: so do we.
    if (answer === null) return void response.destroy()
    const marker = relay.loseFrom(relayed)
    const lose = () => void (relay.loss === 'break' && response.destroy())
    if (marker === '') return lose()
    response.writeHead(answer.status, Object.fromEntries(passed(answer.headers)))
    let sent = ''
    const decoder = new TextDecoder()
    for await (const chunk of untilBroken(answer.body)) {
      if (chunk === broken) return void response.destroy()
      const known = sent.length
      sent += decoder.decode(chunk, { stream: true })
      const end = marker === undefined ? -1 : sent.indexOf(marker)
      if (end < 0) response.write(sent.slice(known))
      else return response.write(sent.slice(known, end) || '\n', lose)
    }
    response.end()
  })
  server.on('request', (_request, response) => response.on('error', () => {}))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const relay: Relay = {
    url: `http://127.0.0.1:${port}/v1`,
    requests: [],
    loseFrom: () => undefined,
    loss: 'break',
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return relay
}

const broken = Symbol('broken')

/** The body, and `broken` where the server cuts its connection. */
async function* untilBroken(body: Response['body']): AsyncGenerator<Uint8Array | typeof broken> {
  try {
    yield* body ?? []
  } catch {
    yield broken
  }
}

const passed = (headers: Headers) =>
  [...headers].filter(
    ([name]) =>
      !/^(connection|keep-alive|transfer-encoding|content-length|content-encoding)$/.test(name),
  )

const pick = (headers: IncomingHttpHeaders, names: string[]) =>
  names.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])) as [
    string,
    string,
  ][]

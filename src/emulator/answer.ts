import type { ServerResponse } from 'node:http'
import type { Breaks, Stall } from './faults/request-faults.ts'
import { requestId } from './ids.ts'
import type { Reply } from './router.ts'
import { formatEvent } from './sse.ts'

/** What every answer of the API comes with. */
export const apiHeaders = (): Record<string, string> => ({
  'x-request-id': requestId(),
  'openai-version': '2020-10-01',
  'openai-processing-ms': '1',
  'x-ratelimit-limit-requests': '10000',
  'x-ratelimit-remaining-requests': '9999',
  'x-ratelimit-reset-requests': '6ms',
  'x-ratelimit-limit-tokens': '2000000',
  'x-ratelimit-remaining-tokens': '1999900',
  'x-ratelimit-reset-tokens': '3ms',
})

export function setHeaders(response: ServerResponse, headers: Record<string, string> = {}): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
}

/** Answers with JSON, or with a stream for as long as the caller listens. */
export async function send(
  response: ServerResponse,
  reply: Reply,
  { cut, stall }: Breaks = {},
): Promise<void> {
  setHeaders(response, reply.headers)
  if ('body' in reply) {
    if (!stall) return sendJson(response, 200, reply.body)
    const text = JSON.stringify(reply.body)
    writeJsonHead(response, 200, text)
    response.write(text.slice(0, text.length / 2))
    return silent(response, stall)
  }
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
  })
  response.flushHeaders()
  let sent = 0
  for await (const event of reply.events) {
    if (response.destroyed) return
    if (sent === stall?.event) return silent(response, stall)
    if (sent++ === cut?.event) {
      // A plain end of the connection, unlike a reset, loses nothing of what was sent before.
      if (!cut.silently) return void response.socket?.destroySoon()
      break
    }
    response.write(formatEvent(event))
  }
  response.end()
}

/** Says no more, for as long as the stall lasts or the caller stays; then resets the connection. */
async function silent(response: ServerResponse, { hold }: Stall): Promise<void> {
  const left = new AbortController()
  response.on('close', () => left.abort())
  await hold(left.signal).catch(() => {})
  response.socket?.resetAndDestroy()
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  indent = 0,
): void {
  const text = JSON.stringify(body, null, indent)
  writeJsonHead(response, status, text)
  response.end(text)
}

function writeJsonHead(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  })
}

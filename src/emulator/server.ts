import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import {
  ApiError,
  type ConflictKind,
  invalidJson,
  invalidUrl,
  missingBetaHeader,
  missingKey,
} from './errors.ts'
import { requestId } from './ids.ts'
import type { Settings } from './options.ts'
import { checkId, createRouter, type Reply, type Route } from './router.ts'
import { formatEvent } from './sse.ts'

export type Traffic = { requests: number; conflicts: Record<ConflictKind, number> }

type Served = {
  settings: Settings
  traffic: Traffic
  /** Below `/v1`. */
  api: readonly Route[]
  /** Outside `/v1`: the emulator's own, without key and without being counted. */
  own: readonly Route[]
}

/** The one place that every request passes: count, intercept, route, handle, answer. */
export function createEmulatorServer({ settings, traffic, api, own }: Served): Server {
  const findApi = createRouter(api)
  const findOwn = createRouter(own)

  const answerOwn = (method: string, { pathname: path, searchParams: query }: URL) => {
    const found = findOwn(method, path)
    if (!found) throw invalidUrl(method, path)
    return found.handler({ method, path, params: found.params, query, body: {} })
  }

  const answerApi = ({ method = 'GET', headers }: IncomingMessage, url: URL, body: unknown) => {
    if (!headers.authorization) throw missingKey()
    const path = url.pathname.slice('/v1'.length)
    const found = findApi(method, path)
    if (!found) throw invalidUrl(method, url.pathname)
    if (/^\/(assistants|threads)/.test(path) && headers['openai-beta'] !== 'assistants=v2')
      throw missingBetaHeader()
    const { params, handler } = found
    for (const [param, id] of Object.entries(params)) checkId(param, id)
    return handler({ method, path, params, query: url.searchParams, body: body ?? {} })
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', url: target = '/' } = request
    const url = new URL(target, 'http://emulator')
    const text = await readText(request)
    try {
      if (!url.pathname.startsWith('/v1/'))
        return await send(response, await answerOwn(method, url))
      traffic.requests++
      setHeaders(response, apiHeaders())
      const body = parseJson(text)
      const instead = await settings.onRequest({ method, path: url.pathname, body })
      if (instead === 'reset') return void request.socket.resetAndDestroy()
      if (instead) {
        setHeaders(response, instead.headers)
        return sendJson(response, instead.status, instead.body, 2)
      }
      await send(response, await answerApi(request, url, body))
    } catch (error) {
      const refusal = error instanceof ApiError ? error : new ApiError(500, String(error))
      if (refusal.conflict) traffic.conflicts[refusal.conflict]++
      sendJson(response, refusal.status, refusal.body, 2)
    }
  }

  return createServer((request, response) => {
    // A client that hangs up ends its request, never the run behind it.
    handle(request, response).catch(() => response.destroy())
  })
}

const apiHeaders = (): Record<string, string> => ({
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

async function readText(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

function parseJson(text: string): unknown {
  if (text.trim() === '') return undefined
  try {
    return JSON.parse(text)
  } catch {
    throw invalidJson()
  }
}

function setHeaders(response: ServerResponse, headers: Record<string, string> = {}): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
}

async function send(response: ServerResponse, reply: Reply): Promise<void> {
  setHeaders(response, reply.headers)
  if ('body' in reply) return sendJson(response, 200, reply.body)
  response.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
  })
  response.flushHeaders()
  for await (const event of reply.events) {
    if (response.destroyed) return
    response.write(formatEvent(event))
  }
  response.end()
}

function sendJson(response: ServerResponse, status: number, body: unknown, indent = 0): void {
  const text = JSON.stringify(body, null, indent)
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  })
  response.end(text)
}

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { apiHeaders, send, sendJson, setHeaders } from './answer.ts'
import { ApiError } from './api-error.ts'
import type { Context } from './context.ts'
import { invalidJson, invalidUrl, missingBetaHeader, missingKey } from './errors.ts'
import { type Outcome, underFaults } from './faults/request-faults.ts'
import type { RequestEntry } from './request-log.ts'
import { kindOf } from './route-kinds.ts'
import { checkId, createRouter, type Route } from './router.ts'

type Served = {
  context: Context
  /** Below `/v1`. */
  api: readonly Route[]
  /** Outside `/v1`: the emulator's own, without key and without being counted. */
  own: readonly Route[]
  /** The thread or conversation that an API request is about. */
  threadOf: (params: Record<string, string>, body: object) => string | undefined
}

/** The one place that every request passes: note, intercept, route, handle under faults, answer. */
export function createEmulatorServer({ context, api, own, threadOf }: Served): Server {
  const { settings, faults, visibility, requests, conflicts } = context
  const findApi = createRouter(api)
  const findOwn = createRouter(own)

  const answerOwn = (
    method: string,
    { pathname: path, searchParams: query }: URL,
    body: unknown,
  ) => {
    const found = findOwn(method, path)
    if (!found) throw invalidUrl(method, path)
    const { route, params } = found
    return route.handler({ method, path, params, query, body: body ?? {}, sees: () => true })
  }

  const answerApi = (
    { method = 'GET', headers }: IncomingMessage,
    { pathname, searchParams: query }: URL,
    sent: unknown,
    entry: RequestEntry,
  ): Promise<Outcome> => {
    const key = keyOf(headers)
    if (key === null) throw missingKey()
    const path = pathname.slice('/v1'.length)
    const found = findApi(method, path)
    if (!found) throw invalidUrl(method, pathname)
    if (/^\/(assistants|threads)/.test(path) && headers['openai-beta'] !== 'assistants=v2')
      throw missingBetaHeader()
    const { params, route } = found
    const body = sent ?? {}
    const kind = kindOf(method, route.pattern)
    const { model } = body as { model?: string }
    const threadId = threadOf(params, body) ?? null
    Object.assign(entry, { kind, threadId })
    const place = { kind, threadId, key, model }
    return underFaults(faults, place, { method, path: pathname }, () => {
      for (const [param, id] of Object.entries(params)) checkId(param, id)
      const sees = (object: object) => visibility.sees(object, kind)
      return route.handler({ method, path, params, query, body, sees })
    })
  }

  async function serveApi(
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
    text: string,
  ): Promise<void> {
    const { method = 'GET' } = request
    const path = url.pathname
    const entry = requests.begin(method, path, keyOf(request.headers))
    const reset = () => {
      entry.answer = 'cut'
      request.socket.resetAndDestroy()
    }
    setHeaders(response, apiHeaders())
    let body: unknown
    try {
      body = parseJson(text)
      const instead = await settings.onRequest({ method, path, body })
      if (instead === 'reset') return reset()
      if (instead) {
        answered(entry, instead.status)
        setHeaders(response, instead.headers)
        return sendJson(response, instead.status, instead.body, 2)
      }
      const outcome = await answerApi(request, url, body, entry)
      if (outcome === 'reset') return reset()
      answered(entry, 200)
      await send(response, outcome.reply, outcome)
    } catch (error) {
      const { status, code, conflict } = refuse(response, error)
      answered(entry, status, code)
      if (conflict) conflicts.add(conflict, entry.threadId, body)
    }
  }

  async function serveOwn(
    { method = 'GET' }: IncomingMessage,
    response: ServerResponse,
    url: URL,
    text: string,
  ): Promise<void> {
    try {
      await send(response, await answerOwn(method, url, parseJson(text)))
    } catch (error) {
      refuse(response, error)
    }
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://emulator')
    const serve = url.pathname.startsWith('/v1/') ? serveApi : serveOwn
    await serve(request, response, url, await readText(request))
  }

  return createServer((request, response) => {
    // A client that hangs up ends its request, never the run behind it.
    handle(request, response).catch(() => response.destroy())
  })
}

function refuse(response: ServerResponse, error: unknown): ApiError {
  const refusal = error instanceof ApiError ? error : new ApiError(500, String(error))
  setHeaders(response, refusal.headers)
  sendJson(response, refusal.status, refusal.body, 2)
  return refusal
}

const keyOf = ({ authorization }: IncomingMessage['headers']): string | null =>
  authorization?.replace(/^Bearer /, '') ?? null

function answered(entry: RequestEntry, status: number, code: string | null = null): void {
  Object.assign(entry, { answer: status < 400 ? 'ok' : 'refused', status, code })
}

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

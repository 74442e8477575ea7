import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { apiHeaders, send, sendJson, setHeaders } from './answer.ts'
import { ApiError } from './api-error.ts'
import type { Context } from './context.ts'
import { invalidJson, invalidUrl, missingBetaHeader, missingKey } from './errors.ts'
import { type Outcome, underFaults } from './faults/request-faults.ts'
import { kindOf } from './route-kinds.ts'
import { checkId, createRouter, type Route } from './router.ts'
import type { Traffic } from './stats.ts'

type Served = {
  context: Context
  traffic: Traffic
  /** Below `/v1`. */
  api: readonly Route[]
  /** Outside `/v1`: the emulator's own, without key and without being counted. */
  own: readonly Route[]
  /** The thread or conversation that an API request is about. */
  threadOf: (params: Record<string, string>, body: object) => string | undefined
}

/** The one place that every request passes: count, intercept, route, handle under faults, answer. */
export function createEmulatorServer({ context, traffic, api, own, threadOf }: Served): Server {
  const { settings, faults, visibility } = context
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
  ): Promise<Outcome> => {
    if (!headers.authorization) throw missingKey()
    const path = pathname.slice('/v1'.length)
    const found = findApi(method, path)
    if (!found) throw invalidUrl(method, pathname)
    if (/^\/(assistants|threads)/.test(path) && headers['openai-beta'] !== 'assistants=v2')
      throw missingBetaHeader()
    const { params, route } = found
    const body = sent ?? {}
    const kind = kindOf(method, route.pattern)
    const { model } = body as { model?: string }
    const key = headers.authorization.replace(/^Bearer /, '')
    const place = { kind, threadId: threadOf(params, body) ?? null, key, model }
    return underFaults(faults, place, { method, path: pathname }, () => {
      for (const [param, id] of Object.entries(params)) checkId(param, id)
      const sees = (object: object) => visibility.sees(object, kind)
      return route.handler({ method, path, params, query, body, sees })
    })
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', url: target = '/' } = request
    const url = new URL(target, 'http://emulator')
    const isApi = url.pathname.startsWith('/v1/')
    const text = await readText(request)
    try {
      if (!isApi) return await send(response, await answerOwn(method, url, parseJson(text)))
      traffic.requests++
      setHeaders(response, apiHeaders())
      const body = parseJson(text)
      const instead = await settings.onRequest({ method, path: url.pathname, body })
      if (instead === 'reset') return void request.socket.resetAndDestroy()
      if (instead) {
        setHeaders(response, instead.headers)
        return sendJson(response, instead.status, instead.body, 2)
      }
      const outcome = await answerApi(request, url, body)
      if (outcome === 'reset') return void request.socket.resetAndDestroy()
      await send(response, outcome.reply, outcome.cut)
    } catch (error) {
      const refusal = error instanceof ApiError ? error : new ApiError(500, String(error))
      if (isApi) traffic.refused(refusal)
      setHeaders(response, refusal.headers)
      sendJson(response, refusal.status, refusal.body, 2)
    }
  }

  return createServer((request, response) => {
    // A client that hangs up ends its request, never the run behind it.
    handle(request, response).catch(() => response.destroy())
  })
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

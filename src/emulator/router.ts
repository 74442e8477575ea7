import { malformedId } from './errors.ts'
import type { ServerSentEvent } from './sse.ts'

export type ApiRequest = {
  method: string
  path: string
  params: Record<string, string>
  query: URLSearchParams
  /** Parsed JSON; `{}` when the request has no body. */
  body: unknown
  /** Whether a read sees the object already. */
  sees: (object: object) => boolean
}
export type Reply = { headers?: Record<string, string> } & (
  | { body: object }
  | { events: AsyncIterable<ServerSentEvent> }
)
export type Handler = (request: ApiRequest) => Reply | Promise<Reply>

/** `pattern` names its parameters: `/threads/:thread_id/messages`. */
export type Route = { method: string; pattern: string; handler: Handler }

export const route = (method: string, pattern: string, handler: Handler): Route => ({
  method,
  pattern,
  handler,
})

/** What ids in a path begin with; other parameters may be anything. */
const prefixes: Record<string, string> = {
  assistant_id: 'asst',
  thread_id: 'thread',
  message_id: 'msg',
  run_id: 'run',
  step_id: 'step',
  conversation_id: 'conv',
  response_id: 'resp',
}

/** Finds the handler of a path below `/v1`; of two that fit, the one registered first. */
export function createRouter(routes: readonly Route[]) {
  const compiled = routes.map((one) => ({
    route: one,
    regexp: new RegExp(`^${one.pattern.replace(/:(\w+)/g, '(?<$1>[^/]+)')}$`),
  }))
  return (
    method: string,
    path: string,
  ): { route: Route; params: Record<string, string> } | null => {
    for (const { regexp, route } of compiled) {
      const found = route.method === method ? regexp.exec(path) : null
      if (found) return { route, params: { ...found.groups } }
    }
    return null
  }
}

export function checkId(param: string, id: string): void {
  const prefix = prefixes[param]
  if (prefix !== undefined && !id.startsWith(prefix)) throw malformedId(param, id, prefix)
}

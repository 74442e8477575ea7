import { z } from 'zod'
import type { Context, HistoryEntry } from './context.ts'
import { withIdNotFound } from './errors.ts'
import { FaultsError, problemsOf, worded } from './faults/check.ts'
import { faultRoutes, refusing } from './faults/routes.ts'
import type { ForeignRun } from './foreign-run.ts'
import { type RouteKind, routeKinds } from './route-kinds.ts'
import { type Route, route } from './router.ts'
import { statsOf } from './stats.ts'

const requestQuery = z.strictObject({
  key: z.string().optional(),
  since: z.iso
    .datetime({ offset: true, error: 'write a time like 2026-01-31T12:00:00.000Z' })
    .transform((text) => new Date(text))
    .optional(),
  kind: z
    .custom<RouteKind>(
      (kind) => routeKinds.includes(kind as RouteKind),
      'write the name of a route kind, such as runs.create',
    )
    .optional(),
  thread: z.string().optional(),
})
const runQuery = z.strictObject({ thread: z.string().optional() })

function checked<S extends z.ZodObject>(schema: S, query: URLSearchParams): z.output<S> {
  const result = schema.safeParse(Object.fromEntries(query))
  if (result.success) return result.data
  return refusing(() => {
    throw new FaultsError(problemsOf(result.error, schema.shape).map(worded))
  })
}

/** What the emulator says about itself, for other processes: outside `/v1`, without a key, never counted. */
export function ownRoutes(
  context: Context,
  historyOf: (threadId: string) => HistoryEntry[] | undefined,
  startForeignRun: (threadId: string, run: ForeignRun) => string,
): Route[] {
  return [
    route('GET', '/emulator/stats', () => ({ body: statsOf(context) })),
    route('GET', '/emulator/threads/:id', ({ params: { id = '' } }) => {
      const body = historyOf(id)
      if (!body) throw withIdNotFound('Thread', id)
      return { body }
    }),
    route('GET', '/emulator/runs', ({ query }) => ({
      body: context.runs.find(checked(runQuery, query).thread),
    })),
    route('GET', '/emulator/requests', ({ query }) => ({
      body: context.requests.find(checked(requestQuery, query)),
    })),
    route('GET', '/emulator/conflicts', () => ({ body: context.conflicts.entries })),
    route('GET', '/emulator/kept-items', () => ({ body: context.keptItems })),
    ...faultRoutes(context.faults, startForeignRun),
  ]
}

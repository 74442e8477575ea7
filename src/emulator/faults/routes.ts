import { ApiError } from '../api-error.ts'
import { checkForeignRun, type ForeignRun } from '../foreign-run.ts'
import { type Route, route } from '../router.ts'
import { checkPlan, FaultsError } from './check.ts'
import type { FaultPlan } from './plan.ts'

/** A check whose complaint becomes a 400. */
export function refusing<T>(check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (!(error instanceof FaultsError)) throw error
    throw new ApiError(400, error.message, { code: error.code })
  }
}

/** The plan over HTTP: read with how often each fault fired, replaced, and ended. */
export function faultRoutes(
  plan: FaultPlan,
  startForeignRun: (threadId: string, run: ForeignRun) => string,
): Route[] {
  const path = '/emulator/faults'
  return [
    route('GET', path, () => ({ body: plan.report })),
    route('PUT', path, ({ body }) => {
      const { faults, seed } = refusing(() => checkPlan(body))
      plan.replace(faults, seed)
      return { body: plan.report }
    }),
    route('DELETE', path, () => {
      plan.replace([])
      return { body: plan.report }
    }),
    route('POST', '/emulator/threads/:id/foreign-run', ({ params: { id = '' }, body }) => {
      const run = refusing(() => checkForeignRun(body))
      return { body: { id: startForeignRun(id, run) } }
    }),
  ]
}

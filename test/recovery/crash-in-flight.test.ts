import type { ChildProcess } from 'node:child_process'
import { describe, expect } from 'vitest'
import type { Fault } from '../../src/emulator/index.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test as base } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { effectsOn, promisedEffects } from './crash-effects.ts'
import { CrashFleet } from './crash-fleet.ts'
import { type Scenario, scenarioNamed } from './crash-scenarios.ts'

const callTimeoutMs = 2_000

/** A call that is under way when its dispatcher dies, on a thread of its own. */
type Call = { scenario: Scenario; on: string; thread: string }

const requests: Record<ProviderName, Array<[scenario: string, on: string]>> = {
  responses: [
    ['create_thread', 'conversations.create'],
    ['add_message', 'items.create'],
    ['create_run', 'responses.create'],
    ['add_message_and_run', 'responses.create'],
    ['add_message_and_run whose model calls a tool that nobody has', 'items.create'],
    ['update_thread', 'conversations.update'],
  ],
  assistants: [
    ['create_thread', 'threads.create'],
    ['add_message', 'messages.create'],
    ['create_run', 'runs.create'],
    ['add_message_and_run', 'messages.create'],
    ['add_message_and_run', 'runs.create'],
    ['add_message_and_run whose model calls a tool that nobody has', 'runs.cancel'],
    ['update_thread', 'threads.update'],
  ],
}
const callsOf = (provider: ProviderName, only = /./): Call[] =>
  requests[provider]
    .filter(([, on]) => only.test(on))
    .map(([name, on]) => ({
      scenario: scenarioNamed(name),
      on,
      thread: `${provider}: ${name}: ${on}`,
    }))

const test = base.extend('fleet', async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs })
  onCleanup(() => fleet.close())
  return { fleet, pool }
})
type Served = { fleet: CrashFleet; pool: Parameters<typeof expectHealthy>[0] }

/** What was there before. */
async function prepare(
  provider: ProviderName,
  calls: readonly Call[],
  fleet: CrashFleet,
): Promise<void> {
  const dispatcher = await fleet.survivor()
  await fleet.createThreads(provider, calls)
  await fleet.drained().finally(() => dispatcher.stop())
}

/** A dispatcher that is in the middle of all these calls, each struck by the fault. */
async function underWay(
  provider: ProviderName,
  calls: readonly Call[],
  fault: { name: string; ms: number },
  { fleet, pool }: Served,
): Promise<ChildProcess> {
  const { rows } = await pool.query('select id, provider_thread_id from threads')
  const idOf = new Map(rows.map((row) => [row.id, row.provider_thread_id]))
  const emulator = fleet.emulators[provider]
  emulator.setFaults(
    calls.map(({ on, thread }) => {
      const id = idOf.get(thread)
      return { ...fault, on, times: 1, ...(id && { thread: id }) } as Fault
    }),
  )
  for (const { thread, scenario } of calls) await fleet.insert(thread, scenario)
  const dispatcher = fleet.dispatcher(provider)
  await waitFor(() => emulator.faults.faults.every(({ fired }) => fired === 1), {
    timeoutMs: 60_000,
    message: 'every call is under way',
  })
  return dispatcher
}

async function expectEffects(
  provider: ProviderName,
  calls: readonly Call[],
  served: Served,
): Promise<void> {
  const found = calls.map(({ thread }) => effectsOn(thread, provider, served))
  expect(await Promise.all(found)).toEqual(
    calls.map(({ thread, scenario }) => promisedEffects(thread, scenario)),
  )
  await expectHealthy(served.pool)
}

describe.each([
  ['has taken effect unheard', { name: 'timeout_after_commit', ms: 60_000 }],
  ['takes effect afterwards', { name: 'late_commit', ms: callTimeoutMs / 2 }],
  ['never arrives', { name: 'timeout_before_commit', ms: 60_000 }],
] as const)('a call that %s when its dispatcher dies', (_, fault) => {
  test.for(providerNames)('has one effect ("%s")', async (provider, { fleet: served }) => {
    const { fleet } = served
    const calls = callsOf(provider)
    await prepare(provider, calls, fleet)
    await fleet.kill(await underWay(provider, calls, fault, served))
    const survivor = await fleet.survivor()
    await fleet.drained().finally(() => survivor.stop())
    await expectEffects(provider, calls, served)
    expect(fleet.emulators[provider].stats.conflicts).toBe(0)
  })
})

test.for(providerNames)(
  'a run that goes on unheard when its dispatcher dies is awaited, not started again ("%s")',
  async (provider, { fleet: served }) => {
    const { fleet, pool } = served
    const calls = callsOf(provider, /^(responses|runs)\.create$/)
    await prepare(provider, calls, fleet)
    const answer = fleet.keepThinking()
    const fault = { name: 'timeout_after_commit', ms: 60_000 }
    await fleet.kill(await underWay(provider, calls, fault, served))
    const survivor = await fleet.survivor()
    // Assistants show the run; a conversation shows only, to whoever sends again, that it is locked.
    const recognised =
      provider === 'assistants'
        ? "select from thread_operations where progress ->> 'run_id' is not null and finished_at is null"
        : "select from thread_operations where error ->> 'code' = 'conversation_locked'"
    await waitFor(async () => (await pool.query(recognised)).rowCount === calls.length, {
      message: 'every run is recognised',
    })
    answer()
    await fleet.drained().finally(() => survivor.stop())
    await expectEffects(provider, calls, served)

    const { stats } = fleet.emulators[provider]
    const { rowCount: noted } = await pool.query(
      "select from operation_events where code = 'conversation_locked'",
    )
    expect(stats).toMatchObject({
      conflicts: noted,
      conflictsByKind: { run_conflict: 0, message_conflict: 0 },
    })
  },
)

import { describe, expect } from 'vitest'
import { Inturn } from '../../src/index.ts'
import { Fleet } from '../recovery/fleet.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test as base } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf } from './rows.ts'

const test = base
  .extend('fleet', async ({ url, pool }) => Fleet.start({ databaseUrl: url, pool }))
  .extend('inturn', async ({ url, fleet: _serving }, { onCleanup }) => {
    const inturn = new Inturn({ databaseUrl: url })
    onCleanup(() => inturn.close())
    return inturn
  })

describe.each(['responses', 'assistants'] as const)('thread.idle on "%s"', (provider) => {
  test('comes when all that was in line is over, and others go on inserting', async ({
    fleet,
    inturn,
    pool,
  }) => {
    const [opened] = await fleet.openEach([provider])
    const thread = inturn.thread(opened?.thread as string)
    await fleet.insert(thread.id, 2)
    const idle = thread.idle()
    let later = 0
    const idler = idle.then(() => {
      later = -1
    })
    // Each comes while the one before is served, until six have come.
    for (let n = 0; n < 6 && later === 0; n++) {
      await fleet.insert(thread.id)
      await waitFor(async () => (await thread.state())?.waiting !== 0 || later === -1)
    }
    await idler
    expect(await thread.state()).toMatchObject({ state: 'idle', waiting: 0 })
    const last = await thread.operations({ limit: 1 })
    expect(last).toMatchObject([{ operation: 'hold', status: 'completed' }])
    await expectHealthy(pool)
  })

  test('waits for a run of somebody else', async ({ fleet, inturn }) => {
    const [opened] = await fleet.openEach([provider])
    const { thread, providerThreadId } = opened as { thread: string; providerThreadId: string }
    const foreign = fleet.emulator.foreignRun(providerThreadId, { ms: 500 })
    await inturn.thread(thread).idle({ timeoutMs: 30_000 })
    const run = fleet.emulator.runs(providerThreadId).find(({ id }) => id === foreign)
    expect(run?.status).toBe('completed')
  })
})

describe('thread.idle', () => {
  test('comes at once where nothing ever was, and does not wait for what is scheduled', async ({
    inturn,
  }) => {
    const thread = inturn.thread('never seen')
    await thread.idle({ timeoutMs: 30_000 })
    const scheduledAt = new Date(Date.now() + 3_600_000)
    const scheduled = await thread.addMessage('later', { scheduledAt })
    await thread.idle({ timeoutMs: 30_000 })
    expect(await scheduled.status()).toBe('scheduled')
  })

  test('gives up in time, says what is in the way, and leaves nothing in the line', async ({
    inturn,
  }) => {
    const thread = inturn.thread('held')
    await thread.hold(async () => {
      const error = await errorOf(thread.idle({ timeoutMs: 200 }))
      expect(error).toMatchObject({
        code: 'idle_timeout',
        message: 'Thread "held" was not idle within 200 ms: hold is served, 0 wait',
      })
      const stop = AbortSignal.abort(new Error('enough'))
      expect((await errorOf(thread.idle({ signal: stop }))).message).toBe('enough')
      expect(await thread.state()).toMatchObject({ waiting: 0 })
    })
  })

  test('withdraws its own hold where a run of somebody else does not end', async ({
    fleet,
    inturn,
    pool,
  }) => {
    const [opened] = await fleet.openEach(['assistants'])
    const { thread, providerThreadId } = opened as { thread: string; providerThreadId: string }
    fleet.emulator.foreignRun(providerThreadId, { ms: 3_600_000 })
    const error = await errorOf(inturn.thread(thread).idle({ timeoutMs: 500 }))
    expect(error.code).toBe('idle_timeout')
    await fleet.isOver()
    const { rows } = await pool.query(
      `select status from thread_operations where operation = 'hold' and thread_id = $1`,
      [thread],
    )
    expect(rows).toEqual([{ status: 'cancelled' }])
  })
})

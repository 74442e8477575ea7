import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished } from 'vitest'
import { HoldLostError, Inturn } from '../../src/index.ts'
import { Fleet } from '../recovery/fleet.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test as base } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf, waiterRows } from './rows.ts'

const test = base
  .extend('fleet', async ({ url, pool }) => Fleet.start({ databaseUrl: url, pool }))
  .extend('inturn', async ({ url, fleet: _serving }, { onCleanup }) => {
    const inturn = new Inturn({ databaseUrl: url })
    onCleanup(() => inturn.close())
    return inturn
  })

const aborted = (signal: AbortSignal) =>
  new Promise<unknown>((resolve) => {
    if (signal.aborted) resolve(signal.reason)
    signal.addEventListener('abort', () => resolve(signal.reason))
  })

describe.each(['responses', 'assistants'] as const)('thread.hold on "%s"', (provider) => {
  test('runs code of one’s own between the operations before and behind it', async ({
    fleet,
    inturn,
    pool,
  }) => {
    const [opened] = await fleet.openEach([provider])
    const { thread, providerThreadId } = opened as { thread: string; providerThreadId: string }
    await fleet.insert(thread, 3)
    const value = await inturn.thread(thread).hold(async (held) => {
      expect(held.providerThreadId).toBe(providerThreadId)
      expect(held.signal.aborted).toBe(false)
      await fleet.insert(thread, 3)
      // Real runs, as code that is not in the line yet would make them.
      for (const _ of [1, 2]) await ownRun(fleet.emulator.url, provider, providerThreadId)
      expect((await inturn.thread(thread).state())?.active_operation_id).toBe(held.operationId)
      return held.operationId
    })
    await fleet.isOver()
    const { rows } = await pool.query(
      `select array_agg(operation order by turn) as operations, max(turn) filter (where id = $2) as held
         from thread_operations where thread_id = $1 and turn > 1`,
      [thread, value],
    )
    expect(rows[0].operations.indexOf('hold')).toBe(3)
    const said = fleet.emulator.history(providerThreadId).map(({ text }) => text)
    const own = said.flatMap((text, i) => (text === 'our own' ? [i] : []))
    expect(own).toHaveLength(2)
    // What was inserted before stands before, what came meanwhile behind.
    expect(said.indexOf('reply with exactly: answer 3')).toBeLessThan(own[0] as number)
    expect(said.indexOf('reply with exactly: answer 4')).toBeGreaterThan(own[1] as number)
    expect(fleet.emulator.stats.conflicts).toBe(0)
    await expectHealthy(pool)
  })

  test('gives each of many who ask at once the thread alone', async ({ fleet, inturn, pool }) => {
    const [opened] = await fleet.openEach([provider])
    const thread = opened?.thread as string
    let inside = 0
    const seen: number[] = []
    const holds = Array.from({ length: 8 }, (_, n) =>
      inturn.thread(thread).hold(async () => {
        inside += 1
        seen.push(inside)
        await inturn.thread(thread).state()
        inside -= 1
        return n
      }),
    )
    expect(await Promise.all(holds)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(seen).toEqual(Array(8).fill(1))
    await expectHealthy(pool)
  })
})

async function ownRun(url: string, provider: string, id: string): Promise<void> {
  const headers = {
    authorization: 'Bearer any',
    'content-type': 'application/json',
    'openai-beta': 'assistants=v2',
  }
  const post = async (path: string, body: object) => {
    const init = { method: 'POST', headers, body: JSON.stringify(body) }
    const answer = await fetch(`${url}/${path}`, init)
    expect(answer.status, path).toBe(200)
    return (await answer.json()) as { id: string }
  }
  if (provider === 'responses') {
    await post('responses', { conversation: id, model: 'gpt-4o', input: 'our own' })
    return
  }
  await post(`threads/${id}/messages`, { role: 'user', content: 'our own' })
  const run = await post(`threads/${id}/runs`, { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' })
  await waitFor(async () => {
    const answer = await fetch(`${url}/threads/${id}/runs/${run.id}`, { headers })
    return ((await answer.json()) as { status: string }).status === 'completed'
  })
}

describe('thread.hold', () => {
  test('renews its lease for as long as it takes', async ({ inturn, pool }) => {
    const until = async (id: number) => {
      const { rows } = await pool.query('select held_until from thread_operations where id = $1', [
        id,
      ])
      return rows[0].held_until as Date
    }
    await inturn.thread('renewed').hold(
      async ({ operationId, signal }) => {
        const first = await until(operationId)
        await waitFor(async () => Date.now() > first.getTime() + 500)
        expect((await until(operationId)).getTime()).toBeGreaterThan(first.getTime())
        expect(signal.aborted).toBe(false)
      },
      { leaseMs: 1_500 },
    )
  })

  test('gives the thread back when the code throws, and throws the same', async ({ inturn }) => {
    const problem = new Error('our own')
    const thread = inturn.thread('thrown')
    expect(
      await errorOf(
        thread.hold(() => {
          throw problem
        }),
      ),
    ).toBe(problem)
    const [held] = await thread.operations()
    expect(held).toMatchObject({ operation: 'hold', status: 'completed' })
  })

  test('aborts the signal as soon as a cancel_run ends it, and is rejected', async ({ inturn }) => {
    const thread = inturn.thread('cancelled')
    const reasons: unknown[] = []
    const error = await errorOf(
      thread.hold(async ({ signal }) => {
        await thread.enqueue('cancel_run', {})
        reasons.push(await aborted(signal))
      }),
    )
    expect(error).toBeInstanceOf(HoldLostError)
    expect(error).toMatchObject({
      code: 'hold_lost',
      message: expect.stringContaining('cancelled'),
    })
    expect(reasons).toEqual([error])
  })

  test('aborts the signal before the lease is over where it cannot be renewed', async ({
    inturn,
    pool,
  }) => {
    const error = await errorOf(
      inturn.thread('gone').hold(
        async ({ operationId, signal }) => {
          // Its row is locked: no renewal comes through.
          const client = await pool.connect()
          onTestFinished(() => client.release(true))
          await client.query('begin')
          await client.query('select from thread_operations where id = $1 for update', [
            operationId,
          ])
          await aborted(signal)
          const { rows } = await pool.query(
            'select status, held_until > clock_timestamp() as safe from thread_operations where id = $1',
            [operationId],
          )
          expect(rows).toEqual([{ status: 'processing', safe: true }])
          await client.query('rollback')
        },
        { leaseMs: 3_000 },
      ),
    )
    expect(error).toMatchObject({ code: 'hold_lost' })
  })

  test('that does not come to its turn in time is withdrawn', async ({ inturn, pool }) => {
    const thread = inturn.thread('busy')
    await thread.hold(async ({ operationId }) => {
      const error = await errorOf(thread.hold(() => 'never', { timeoutMs: 100 }))
      expect(error).toMatchObject({
        code: 'hold_timeout',
        message: expect.stringContaining(`behind operation ${operationId}, a hold of `),
      })
      const stop = new AbortController()
      const waiting = errorOf(thread.hold(() => 'never', { signal: stop.signal }))
      await waitFor(async () => (await thread.state())?.waiting === 1)
      stop.abort(new Error('enough'))
      expect((await waiting).message).toBe('enough')
    })
    const [third, second, first] = await thread.operations()
    expect([first?.status, second?.status, third?.status]).toEqual([
      'completed',
      'cancelled',
      'cancelled',
    ])
    expect(await waitFor(async () => (await waiterRows(pool)) === 0)).toBe(true)
  })

  test('of a process that is killed ends with its lease, and the line goes on', async ({
    inturn,
    url,
  }) => {
    const holder = fileURLToPath(new URL('holding-process.ts', import.meta.url))
    const child = spawn(process.execPath, [holder, url, 'crashed', '1000'], {
      env: { PATH: process.env.PATH },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    await once(child.stdout, 'data')
    child.kill('SIGKILL')
    const thread = inturn.thread('crashed')
    expect(await thread.hold(() => 'behind')).toBe('behind')
    const [, crashed] = await thread.operations()
    expect(crashed).toMatchObject({ status: 'failed', error: { code: 'hold_expired' } })
  })
})

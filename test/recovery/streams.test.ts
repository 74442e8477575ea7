import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { type Emulator, type Fault, startEmulator } from '../../src/emulator/index.ts'
import { type ProviderName, providerNames } from '../../src/model/thread.ts'
import { type Running, start } from '../cli/cli.ts'
import { client, Reader, story, textOf } from '../operations/reading.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const sentence = 'one two three four five six seven eight nine ten'

async function emulate(faults: readonly Fault[]): Promise<Emulator> {
  const latency = { queuedMs: 0, thinkMs: 0, perTokenMs: 0 }
  const emulator = await startEmulator({ latency, faults })
  onTestFinished(() => emulator.close())
  return emulator
}

/** A dispatcher as a process of its own. */
async function dispatcher(url: string, emulator: Emulator): Promise<Running> {
  const env = {
    OPENAI_API_KEY: 'any',
    OPENAI_BASE_URL: emulator.url,
    INTURN_SETTLE_MS: '0',
    ASSISTANTS_SETTLE_MS: '0',
    INTURN_GRACE_MS: '750',
    INTURN_LEASE_MS: '1500',
  }
  const running = start(['dispatch'], { databaseUrl: url, env })
  await running.printed(/dispatcher started/)
  return running
}

async function ask(pool: pg.Pool, provider: ProviderName): Promise<number> {
  await pool.query("insert into threads (id, provider) values ('t', $1)", [provider])
  await pool.query(
    `insert into assistants (id, model) values ('asst_abcdefghijklmnopqrstuvwx', 'gpt-4o')`,
  )
  const { rows } = await pool.query(
    `insert into thread_operations (thread_id, operation, data)
     values ('t', 'add_message_and_run', $1) returning id`,
    [
      {
        message: `reply with exactly: ${sentence}`,
        assistant_id: 'asst_abcdefghijklmnopqrstuvwx',
      },
    ],
  )
  return rows[0].id
}

const stall = (provider: ProviderName): Fault =>
  provider === 'responses'
    ? { name: 'answer_stalls', on: 'responses.create', event: 8 }
    : { name: 'answer_stalls', on: 'runs.create', event: 11 }

describe.each(providerNames)('a dispatcher dies in the middle of a stream of %s', (provider) => {
  test('and the next one goes on with it: no number is left out, and the text is whole', async ({
    pool,
    url,
  }) => {
    const emulator = await emulate([stall(provider)])
    const dying = await dispatcher(url, emulator)
    const id = await ask(pool, provider)
    const reader = await new Reader((await client(pool).operation(id)).stream()).until('text')
    expect(textOf(reader.events).length).toBeLessThan(sentence.length)
    dying.child.kill('SIGKILL')
    await dying.ended
    await dispatcher(url, emulator)
    const { events } = await reader.until('ended')
    expect(textOf(events)).toBe(sentence)
    expect(story(events)).toEqual(['run_started', 'text', 'run_ended', 'ended'])
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1))
    const { rows } = await pool.query('select attempts from thread_operations')
    expect(rows[0].attempts).toBeGreaterThan(1)
    expect(emulator.runs()).toHaveLength(1)
    await expectHealthy(pool)
  })

  test('or only sleeps, and has nothing to say when it wakes up', async ({ pool, url }) => {
    const emulator = await emulate([stall(provider)])
    const sleeping = await dispatcher(url, emulator)
    const id = await ask(pool, provider)
    const reader = await new Reader((await client(pool).operation(id)).stream()).until('text')
    sleeping.child.kill('SIGSTOP')
    onTestFinished(() => void sleeping.child.kill('SIGCONT'))
    await dispatcher(url, emulator)
    const { events } = await reader.until('ended')
    expect(textOf(events)).toBe(sentence)
    // The rest of its stream comes to it now, when nobody waits for it.
    emulator.setFaults([])
    sleeping.child.kill('SIGCONT')
    await waitFor(() => /lease|left to the next/.test(sleeping.stdout()), {
      message: 'it knows that it was given up',
    })
    sleeping.child.kill('SIGTERM')
    await sleeping.ended
    const { rows } = await pool.query('select max(last_seq)::int as last from operation_stream')
    expect(rows[0].last).toBe(events.length - 1)
    await expectHealthy(pool)
  })
})

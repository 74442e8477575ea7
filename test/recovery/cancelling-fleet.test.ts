import type pg from 'pg'
import { expect } from 'vitest'
import { inturn } from '../cli/cli.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { Random } from '../support/random.ts'
import { waitFor } from '../support/wait-for.ts'
import { Fleet } from './fleet.ts'

/** Every operation of these threads is what the provider says of its run, and nothing else stands there. */
async function expectTheTruth(fleet: Fleet, pool: pg.Pool): Promise<Record<string, number>> {
  const { rows } = await pool.query(
    `select o.id, o.thread_id, o.data ->> 'message' as text, o.status, o.error ->> 'code' as code, t.provider_thread_id
       from thread_operations o join threads t on t.id = o.thread_id
      where o.operation = 'add_message_and_run' order by o.turn nulls last, o.id`,
  )
  for (const [thread, operations] of Map.groupBy(rows, (row) => row.thread_id as string)) {
    const conversation = operations[0]?.provider_thread_id
    const runs = fleet.emulator.runs(conversation)
    const ofOperation = (id: number) =>
      runs.filter(({ metadata }) => metadata.inturn_operation === String(id))
    for (const { id, status } of operations) {
      const ends = ofOperation(id).map((run) => run.status)
      const allowed = status === 'completed' ? [['completed']] : [[], ['cancelled']]
      expect(allowed, `${status} operation ${id} of ${thread}`).toContainEqual(ends)
    }
    const answers = fleet.emulator
      .history(conversation)
      .flatMap(({ role, text }) => (role === 'assistant' && text ? [text] : []))
    const completed = operations.filter(({ status }) => status === 'completed')
    const whole = answers.filter((answer) => completed.some(({ text }) => text.endsWith(answer)))
    expect(whole, thread).toEqual(completed.map(({ text }) => text.split(': ')[1]))
  }
  const { rows: told } = await pool.query(
    `select c.id, c.status, c.result, o.status as target from thread_operations c
       left join thread_operations o on o.id = c.target_id where c.operation = 'cancel_run'`,
  )
  for (const { id, status, result, target } of told) {
    expect(status, `cancel_run ${id}`).toBe('completed')
    expect(['nothing_to_do', target]).toContain(result.outcome)
  }
  const count = (status: string) => rows.filter((row) => row.status === status).length
  return { completed: count('completed'), cancelled: count('cancelled') }
}

test('whoever is cancelled in a busy fleet, the others are served in order and nobody meets a lock', async ({
  url: databaseUrl,
  pool,
}) => {
  const fleet = await Fleet.start({
    databaseUrl,
    pool,
    emulator: { latency: { queuedMs: 2, thinkMs: 100, perTokenMs: 20 } },
  })
  const threads = await fleet.open(8)
  const random = new Random(42)
  for (let round = 0; round < 6; round++)
    for (const thread of threads) await fleet.say(thread, 'add_message_and_run')
  for (let n = 0; n < 60; n++) {
    const finished = await fleet.finished()
    // What is active on a thread that is served, or any operation that is not over.
    await pool.query(
      `insert into thread_operations (thread_id, operation, data)
       select o.thread_id, 'cancel_run', case when $1 then '{}' else jsonb_build_object('operation_id', o.id) end
         from thread_operations o
        where o.operation = 'add_message_and_run' and o.finished_at is null
        order by $1 and o.turn is null, md5(o.id || $2::text) limit 1`,
      [random.chance(0.7), random.next()],
    )
    // The next one comes when something has happened, or there is nothing left.
    await waitFor(
      async () =>
        (await fleet.finished()) > finished ||
        (await pool.query('select from thread_operations where finished_at is null')).rowCount ===
          0,
    )
  }
  await fleet.isOver()
  const { completed, cancelled } = await expectTheTruth(fleet, pool)
  expect(completed).toBeGreaterThan(5)
  expect(cancelled).toBeGreaterThan(5)
  expect(fleet.emulator.conflicts().filter(({ probe }) => !probe)).toEqual([])
  await expectHealthy(pool)
})

test('the command cancels what is active or what is named, and says how it ended', async ({
  url: databaseUrl,
  pool,
}) => {
  const fleet = await Fleet.start({ databaseUrl, pool, dispatchers: 1 })
  const [thread = ''] = await fleet.open(1)
  const run = (...args: string[]) => inturn(['cancel', ...args], { databaseUrl })
  const ids = async () =>
    (
      await pool.query(
        `select id from thread_operations where operation = 'add_message_and_run' order by id`,
      )
    ).rows.map(({ id }) => id as number)
  expect(await run(thread, '--wait')).toMatchObject({ code: 0, stdout: 'nothing was active\n' })

  fleet.emulator.setFaults([{ name: 'stuck_in_progress', times: 1 }])
  for (let n = 0; n < 3; n++) await fleet.say(thread, 'add_message_and_run')
  const [first, second] = await ids()
  await waitFor(async () => fleet.emulator.stats.runsStarted === 1)
  const waiting = await run(thread, String(second), '--reason', 'wrong', '--wait')
  expect(waiting).toMatchObject({ code: 0, stdout: `operation ${second} was cancelled\n` })
  const active = await run(thread, '--wait', '--json')
  expect(JSON.parse(active.stdout)).toEqual({
    id: expect.any(Number),
    result: { outcome: 'cancelled', operation_id: first },
  })
  await fleet.isOver()
  const over = await run(thread, String(second), '--wait')
  expect(over.stdout).toBe(`operation ${second} was over\n`)
  const unwaited = await run(thread)
  expect(unwaited.stdout).toMatch(/^operation \d+ asks for it\n$/)
  expect(await expectTheTruth(fleet, pool)).toEqual({ completed: 1, cancelled: 2 })

  const unknown = await run(thread, '999999')
  expect(unknown).toMatchObject({ code: 1, stdout: '' })
  expect(unknown.stderr).toMatch(/^error: there is no operation 999999 on thread .*\nhint: Leave/)
  const misspelt = await run(thread, 'seven')
  expect(misspelt).toMatchObject({ code: 2 })
  expect(misspelt.stderr).toContain('Write the number of an operation.')
})

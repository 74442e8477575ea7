import type pg from 'pg'
import { expect } from 'vitest'
import { failed, HandDriven, heldBecause } from '../support/hand-driven.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { inturn } from './cli.ts'

/** One that failed in its second attempt. */
async function failTwice(d: HandDriven, pool: pg.Pool): Promise<number> {
  const { id } = await insertRow(pool, { thread_id: 'user:42' })
  const error = { code: 'connection_error', message: 'Reset.' }
  await d.settle(await d.claimOnly(), { status: 'retry', error, delayMs: 0, burnsAttempt: true })
  await d.settle(await d.claimOnly(), failed)
  return id
}

test('what failed is listed with every attempt', async ({ url, pool, connected }) => {
  const id = await failTwice(await HandDriven.signOn(await connected()), pool)
  const { stdout } = await inturn(['status', '--failed'], { databaseUrl: url })
  expect(stdout).toMatch(
    new RegExp(`^ *${id} +user:42 +1 +add_message .* connection_error, no +No\\.$`, 'm'),
  )
  const json = await inturn(['status', 'user:42', '--failed', '--json'], { databaseUrl: url })
  expect(JSON.parse(json.stdout)).toMatchObject([
    { id, turn: 1, code: 'no', attempts: [{ attempt: 1 }, { attempt: 2, status: 'failed' }] },
  ])
  const others = await inturn(['status', 'nobody', '--failed'], { databaseUrl: url })
  expect(others.stdout).toBe('No operation has failed.\n')
})

test('what failed is sent back once, and is off the list', async ({ url, pool, connected }) => {
  const id = await failTwice(await HandDriven.signOn(await connected()), pool)
  const retried = await inturn(['retry', String(id), '--at', 'head'], { databaseUrl: url })
  expect(retried).toMatchObject({
    code: 0,
    stdout: `operation ${id} is at the head of the line of thread user:42\n`,
  })
  const again = await inturn(['retry', String(id), '--at', 'tail'], { databaseUrl: url })
  expect(again).toMatchObject({ code: 1, stdout: '' })
  expect(again.stderr).toMatch(/^error: operation \d+ is pending: only what failed .*\nhint: .*\n$/)
  const after = await inturn(['status', '--failed', '--json'], { databaseUrl: url })
  expect(after.stdout).toBe('[]\n')
})

test.for([
  [['7'], "required option '--at <place>' not specified"],
  [['7', '--at', 'front'], 'Allowed choices are head, tail.'],
  [['seven', '--at', 'head'], 'Write the number of an operation.'],
] as const)('retry %j is written wrongly: exit code 2', async ([args, message]) => {
  const { code, stderr } = await inturn(['retry', ...args])
  expect(code).toBe(2)
  expect(stderr).toContain(message)
})

test('an operation that does not exist, and a thread that waits for nobody, are errors with a hint', async ({
  url,
}) => {
  const retry = await inturn(['retry', '999', '--at', 'head'], { databaseUrl: url })
  expect(retry.code).toBe(1)
  expect(retry.stderr).toMatch(/^error: there is no operation 999\nhint: .*dead_letters/)
  const resume = await inturn(['resume', 'nobody'], { databaseUrl: url })
  expect(resume.code).toBe(1)
  expect(resume.stderr).toMatch(/^error: thread nobody is neither halted .*\nhint: .*thread_states/)
})

test('resume has a held operation served again, and a halted line go on', async ({
  url,
  pool,
  connected,
}) => {
  const d = await HandDriven.signOn(await connected())
  await pool.query(`insert into threads (id, on_failure) values ('t', 'halt')`)
  const { id } = await insertRow(pool, { thread_id: 't' })
  await d.settle(await d.claimOnly(), heldBecause('outcome_unknown'))
  const held = await inturn(['status'], { databaseUrl: url })
  expect(held.stdout).toMatch(/^t +held /m)
  expect(held.stdout).toContain('held for an operator: outcome_unknown')
  const first = await inturn(['resume', 't'], { databaseUrl: url })
  expect(first).toMatchObject({ code: 0, stdout: `operation ${id} is served again\n` })

  await d.settle(await d.claimOnly(), failed)
  const next = await insertRow(pool, { thread_id: 't' })
  const halted = await inturn(['status'], { databaseUrl: url })
  expect(halted.stdout).toMatch(/^t +halted /m)
  expect(halted.stdout).toContain(`halted since operation ${id} failed`)
  const second = await inturn(['resume', 't', '--json'], { databaseUrl: url })
  expect(JSON.parse(second.stdout)).toEqual({ operationId: id, was: 'halted' })
  expect(await d.claimOnly()).toMatchObject({ id: next.id })
})

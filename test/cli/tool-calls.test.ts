import { expect } from 'vitest'
import { ask, call, requiresAction } from '../support/asked-calls.ts'
import { HandDriven } from '../support/hand-driven.ts'
import { readRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { inturn } from './cli.ts'

test('open calls are listed, and answered one by one', async ({ url, pool, connected }) => {
  const d1 = await HandDriven.signOn(await connected())
  const { id } = await ask(pool, d1, 'user:42', [call('call_1'), call('call_2', 'get_time')])
  await d1.settle({ id, thread_id: 'user:42', attempts: 1 } as never, requiresAction)
  const listed = await inturn(['tool-calls', 'user:42'], { databaseUrl: url })
  expect(listed.stdout).toMatch(new RegExp(`^user:42 +${id} +call_1 +get_weather +.*\\{\\}$`, 'm'))
  expect(listed.stdout).toMatch(/call_2 +get_time/)

  const submitted = await inturn(['submit', 'user:42', 'call_1', 'rain'], { databaseUrl: url })
  expect(submitted).toMatchObject({ code: 0 })
  const [, row] = /^operation (\d+) answers call_1\n$/.exec(submitted.stdout) ?? []
  expect(await readRow(pool, Number(row))).toMatchObject({
    operation: 'submit_tool_outputs',
    data: { outputs: [{ call_id: 'call_1', output: 'rain' }] },
    target_id: id,
  })
  await inturn(['submit', 'user:42', 'call_2', '-'], { databaseUrl: url, input: 'no\non' })
  await pool.query(`select apply_tool_outputs('d1')`)
  const all = await inturn(['tool-calls', '--json'], { databaseUrl: url })
  expect(JSON.parse(all.stdout)).toEqual([])
  const none = await inturn(['tool-calls'], { databaseUrl: url })
  expect(none.stdout).toBe('No call waits for an output.\n')
  const { rows } = await pool.query('select output from tool_calls order by call_id')
  expect(rows).toEqual([{ output: 'rain' }, { output: 'no\non' }])
})

test('a call that is not open is refused with what is', async ({ url, pool, connected }) => {
  const d1 = await HandDriven.signOn(await connected())
  await ask(pool, d1, 'user:42', [call('call_1')])
  const wrong = await inturn(['submit', 'user:42', 'call_9', 'rain'], { databaseUrl: url })
  expect(wrong.code).toBe(1)
  expect(wrong.stderr).toMatch(/^error: operation \d+ did not ask for call_9\nhint: .*call_1/)
  const nobody = await inturn(['submit', 'user:1', 'call_1', 'rain'], { databaseUrl: url })
  expect(nobody.stderr).toMatch(/^error: no operation of thread user:1 requires action\nhint: /)
})

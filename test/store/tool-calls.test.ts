import type pg from 'pg'
import { describe, expect } from 'vitest'
import { applyToolOutputs, readRound, writeToolCalls } from '../../src/store/tool-calls.ts'
import {
  answerToolCall,
  type ClaimedCall,
  claimToolCalls,
  giveBackToolCalls,
  stillOpen,
} from '../../src/store/tool-claims.ts'
import { locked } from '../../src/store/while-locked.ts'
import { ask, call, claimOf, rain, requiresAction, submit } from '../support/asked-calls.ts'
import { HandDriven, retryIn } from '../support/hand-driven.ts'
import { expectHealthy } from '../support/healthy.ts'
import { readRow, refusal } from '../support/line.ts'
import { test } from '../support/own-database.ts'

/** What it has not heard of is nothing, unless told otherwise. */
const claim = (pool: pg.Pool, id: string, names: string[], held: ClaimedCall[] = []) =>
  claimToolCalls(pool, id, names, { held, limit: 5 })

const answer = { output: 'rain', isError: false }

describe('an operation that requires action', () => {
  test('frees its slot and keeps its thread, and is claimed again by its deadline', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a')])
    const { claimed } = await d1.settle(operation, requiresAction, { free: 5 })
    expect(claimed).toEqual([])
    const row = await readRow(pool, operation.id)
    expect(row).toMatchObject({ status: 'requires_action', claimed_by: null, error: null })
    expect(Number(row.ready_at) - Date.now()).toBeGreaterThan(3_000_000)

    const other = await ask(pool, d1, 'u', [call('a')])
    await d1.settle(other, { ...requiresAction, delayMs: 0 })
    expect(await d1.claimOnly()).toMatchObject({ id: other.id, attempts: 2, turn: 1 })
  })

  test('goes on when an output was written while it was being settled', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a')])
    const [claimed] = await claim(pool, 'd1', ['get_weather'])
    expect(claimed).toMatchObject({ call_id: 'a', attempts: 1, operation: 'create_run' })
    expect(await answerToolCall(pool, 'd1', claimed as never, answer)).toBe('stored')
    expect(await readRow(pool, operation.id)).toMatchObject({ status: 'processing' })
    await d1.settle(operation, requiresAction)
    expect(await d1.claimOnly()).toMatchObject({ id: operation.id, attempts: 2 })
  })

  test('is not settled past an output that is about to commit', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a')])
    const [claimed] = await claim(pool, 'd1', ['get_weather'])
    const client = await connected()
    await client.query('begin')
    await answerToolCall(client as never, 'd1', claimed as never, answer)
    // The row is held: the outcome is noted, and settled by whoever comes next.
    await d1.settle(operation, requiresAction)
    expect(await readRow(pool, operation.id)).toMatchObject({ status: 'processing' })
    await client.query('commit')
    await pool.query('select settle_noted(10)')
    expect(await d1.claimOnly()).toMatchObject({ id: operation.id, attempts: 2 })
  })

  test('holds no place in its lane', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    await pool.query(`insert into lanes (provider, key, max_runs) values ('responses', 'k', 1)`)
    const enter = async (id: number, attempts: number) =>
      (
        await pool.query(`select enter_lane('d1', $1, $2, 'responses', 'k', '') as full`, [
          id,
          attempts,
        ])
      ).rows[0].full
    const first = await ask(pool, d1, 't', [call('a')])
    expect(await enter(first.id, 1)).toBeNull()
    const second = await ask(pool, d1, 'u', [call('b')])
    expect(await enter(second.id, 1)).toBe('k')
    await d1.settle(first, requiresAction)
    expect(await enter(second.id, 1)).toBeNull()
  })
})

describe('the calls of a run', () => {
  test('are written once, round by round, by whoever holds the claim', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('b'), call('a')])
    const claim = claimOf(d1, operation)
    const again = await writeToolCalls(pool, claim, [call('b'), call('a')], 1)
    expect(again?.round).toBe(1)
    expect(again?.msLeft).toBeGreaterThan(3_000_000)
    expect((await readRound(pool, operation.id, 1)).map(({ call_id }) => call_id)).toEqual([
      'b',
      'a',
    ])
    expect(await writeToolCalls(pool, claim, [call('c')], 1_000)).toMatchObject({ round: 2 })
    const others = { ...claim, dispatcherId: 'd2' }
    expect(await writeToolCalls(pool, others, [call('d')], 1_000)).toBeNull()
    expect(await writeToolCalls(pool, { ...claim, attempts: 2 }, [call('d')], 1_000)).toBeNull()
  })

  test('may say anything, also what jsonb does not take', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [{ ...call('a'), arguments: 'nul \0 half \ud800' }])
    expect(await readRound(pool, operation.id, 1)).toMatchObject([
      { arguments: 'nul \ufffd half \ufffd' },
    ])
  })

  test('are written by nobody else, and go with their operation', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a')])
    for (const statement of [
      `update tool_calls set output = '"mine"'`,
      `insert into tool_calls (operation_id, call_id, thread_id, round, type, name, arguments, deadline)
       values (1, 'x', 't', 1, 'function_call', 'f', '{}', now())`,
      'delete from tool_calls',
    ])
      expect(await refusal(pool.query(statement))).toMatchObject({
        constraint: 'tool_call_is_guarded',
        hint: expect.stringContaining('submit_tool_outputs'),
      })
    await d1.settle(operation, retryIn(3_600_000))
    await pool.query(`update thread_operations set status = 'cancelled' where id = $1`, [
      operation.id,
    ])
    const { rows } = await pool.query('select output, is_error from tool_calls')
    expect(rows).toEqual([{ output: expect.stringContaining('cancelled'), is_error: true }])
    await expectHealthy(pool)
    await pool.query('delete from thread_operations')
    expect((await pool.query('select from tool_calls')).rowCount).toBe(0)
  })
})

describe('a call in the hands of a tool', () => {
  test('is taken by one dispatcher, and by another when that one is gone', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected())
    await HandDriven.signOn(await connected(), 'd2')
    await ask(pool, d1, 't', [call('a'), call('b', 'get_time')])
    expect(await claim(pool, 'd1', ['get_weather'])).toMatchObject([{ call_id: 'a' }])
    expect(await claim(pool, 'd2', ['get_weather'])).toEqual([])
    expect(await claim(pool, 'nobody', ['get_time'])).toEqual([])
    await pool.query(`delete from dispatchers where id = 'd1'`)
    expect(await claim(pool, 'd2', ['get_weather'])).toMatchObject([{ call_id: 'a', attempts: 2 }])
  })

  test('of which its dispatcher has not heard is begun anew by it', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    await ask(pool, d1, 't', [call('a')])
    const lost = await claim(pool, 'd1', ['get_weather'])
    expect(await claim(pool, 'd1', ['get_weather'], lost)).toEqual([])
    expect(await claim(pool, 'd1', ['get_weather'])).toMatchObject([{ call_id: 'a', attempts: 2 }])
  })

  test('is answered by its latest claim alone, and once', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    await HandDriven.signOn(await connected(), 'd2')
    await ask(pool, d1, 't', [call('a')])
    const [first] = await claim(pool, 'd1', ['get_weather'])
    await giveBackToolCalls(pool, 'd1')
    const [second] = await claim(pool, 'd2', ['get_weather'])
    expect(await answerToolCall(pool, 'd1', first as never, answer)).toBe('late')
    expect(await stillOpen(pool, [second as never])).toMatchObject([{ call_id: 'a' }])
    expect(await answerToolCall(pool, 'd2', second as never, answer)).toBe('stored')
    expect(await answerToolCall(pool, 'd2', second as never, answer)).toBe('late')
    expect(await stillOpen(pool, [second as never])).toEqual([])
    expect(await claim(pool, 'd2', ['get_weather'])).toEqual([])
  })

  test('waits for nobody’s open transaction', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a')])
    const client = await connected()
    await client.query('begin')
    await client.query('select from tool_calls for update')
    expect(await claim(pool, 'd1', ['get_weather'])).toEqual([])
    await client.query('rollback')
    const [claimed] = await claim(pool, 'd1', ['get_weather'])
    for (const table of ['thread_operations', 'tool_calls']) {
      await client.query('begin')
      await client.query(`select from ${table} for update`)
      expect(await answerToolCall(pool, 'd1', claimed as never, answer)).toBe(locked)
      await client.query('rollback')
    }
    expect(await answerToolCall(pool, 'd1', claimed as never, answer)).toBe('stored')
    expect(operation.id).toBe(claimed?.operation_id)
  })
})

describe('outputs that were submitted', () => {
  test('are written down in their order, and have the operation go on with the last', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a'), call('b')])
    await d1.settle(operation, requiresAction)
    const first = await submit(pool, 't', [rain('b')])
    expect(first).toMatchObject({ status: 'pending', place: null, target_id: operation.id })
    expect(await applyToolOutputs(pool, 'd1')).toBe(false)
    const parts = [{ type: 'input_text', text: 'sun' }]
    const second = await submit(pool, 't', [{ call_id: 'a', output: parts }])
    expect(await applyToolOutputs(pool, 'd1')).toBe(true)
    expect(await readRow(pool, first.id)).toMatchObject({
      status: 'completed',
      turn: null,
      result: { operation_id: operation.id, call_ids: ['b'], missing: ['a'] },
    })
    expect((await readRow(pool, second.id)).result).toEqual({
      operation_id: operation.id,
      call_ids: ['a'],
      missing: [],
    })
    expect(await readRound(pool, operation.id, 1)).toMatchObject([
      { call_id: 'a', output: parts },
      { call_id: 'b', output: 'rain' },
    ])
    expect(await d1.claimOnly()).toMatchObject({ id: operation.id, attempts: 2 })
  })

  test('say so where others were quicker: with all of them it fails', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a'), call('b')])
    await d1.settle(operation, requiresAction)
    // Neither sees the other.
    const [one, other] = [await connected(), await connected()]
    await one.query('begin')
    const first = await submit(one, 't', [rain('a')])
    await other.query('begin')
    const second = await submit(other, 't', [rain('a'), rain('b')])
    const third = await submit(pool, 't', [rain('a')])
    await one.query('commit')
    await other.query('commit')
    await applyToolOutputs(pool, 'd1')
    expect((await readRow(pool, first.id)).result).toMatchObject({ call_ids: ['a'] })
    expect((await readRow(pool, second.id)).result).toMatchObject({
      call_ids: ['b'],
      ignored: ['a'],
    })
    expect(await readRow(pool, third.id)).toMatchObject({
      status: 'failed',
      error: { code: 'calls_are_answered', operation_id: operation.id },
    })
  })

  test('wait while somebody’s transaction holds the operation, and hold up nobody else', async ({
    pool,
    connected,
  }) => {
    const d1 = await HandDriven.signOn(await connected())
    const held = await ask(pool, d1, 't', [call('a')])
    await d1.settle(held, requiresAction)
    const free = await ask(pool, d1, 'u', [call('a')])
    await d1.settle(free, requiresAction)
    const [first, second] = [
      await submit(pool, 't', [rain('a')]),
      await submit(pool, 'u', [rain('a')]),
    ]
    const client = await connected()
    await client.query('begin')
    await client.query('select from thread_operations where id = $1 for update', [held.id])
    expect(await applyToolOutputs(pool, 'd1')).toBe(true)
    expect((await readRow(pool, first.id)).status).toBe('pending')
    expect((await readRow(pool, second.id)).status).toBe('completed')
    await client.query('commit')
    expect(await applyToolOutputs(pool, 'd1')).toBe(true)
    expect((await readRow(pool, first.id)).status).toBe('completed')
  })
})

describe('at the INSERT, outputs are refused', () => {
  const cases: Array<[what: string, outputs: unknown, constraint: string, says: RegExp]> = [
    ['that are no objects', ['21'], 'tool_outputs_are_well_formed', /^entry 1 /],
    [
      'without a call_id',
      [rain('a'), { output: 'x' }],
      'tool_outputs_are_well_formed',
      /^entry 2 /,
    ],
    ['without an output', [{ call_id: 'a' }], 'tool_outputs_are_well_formed', /entry 1/],
    ['that are numbers', [{ call_id: 'a', output: 21 }], 'tool_outputs_are_well_formed', /entry 1/],
    ['that are null', [{ call_id: 'a', output: null }], 'tool_outputs_are_well_formed', /entry 1/],
    [
      'with parts that are none',
      [{ call_id: 'a', output: ['x'] }],
      'tool_outputs_are_well_formed',
      /entry 1/,
    ],
    ['with no part', [{ call_id: 'a', output: [] }], 'tool_outputs_are_well_formed', /entry 1/],
    [
      'with more than that',
      [{ ...rain('a'), error: true }],
      'tool_outputs_are_well_formed',
      /entry 1/,
    ],
    ['twice in one row', [rain('a'), rain('a')], 'call_is_answered_once', /call a has two outputs/],
    [
      'of calls that were never asked',
      [rain('a'), rain('z')],
      'call_was_asked',
      /did not ask for z/,
    ],
    [
      'of calls that are answered',
      [rain('c')],
      'call_is_answered_once',
      /call c .* answered already/,
    ],
    ['that another row gives', [rain('b')], 'call_is_answered_once', /answers call b already/],
  ]

  test('that say nothing, or not what was asked', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    await ask(pool, d1, 't', [call('a'), call('b'), call('c')])
    await submit(pool, 't', [rain('c')])
    await applyToolOutputs(pool, 'd1')
    await submit(pool, 't', [rain('b')])
    for (const [what, outputs, constraint, says] of cases) {
      const refused = await refusal(submit(pool, 't', outputs))
      expect.soft(refused, what).toMatchObject({ code: '23514', constraint })
      expect.soft(refused.message, what).toMatch(says)
      expect
        .soft(refused.hint, what)
        .toMatch(constraint === 'call_was_asked' ? /a \(get_weather\), b \(get_weather\)/ : /\S/)
      expect.soft(refused.message + refused.hint, what).not.toContain('rain')
    }
  })

  test('where nothing of the thread requires action', async ({ pool, connected }) => {
    const nothing = { code: '23514', constraint: 'thread_requires_action' }
    expect(await refusal(submit(pool, 'new', [rain('a')]))).toMatchObject({
      ...nothing,
      message: 'no operation of thread new requires action',
      hint: expect.stringContaining('FROM tool_calls WHERE output IS NULL'),
    })
    const d1 = await HandDriven.signOn(await connected())
    const operation = await ask(pool, d1, 't', [call('a')])
    // The next of the line has its own calls to come.
    await d1.settle(operation)
    expect(await refusal(submit(pool, 't', [rain('a')]))).toMatchObject(nothing)
  })

  test('as content parts on Assistants', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    await pool.query(`insert into threads (id, provider) values ('t', 'assistants')`)
    await ask(pool, d1, 't', [call('a')], { providers: ['assistants'] })
    const parts = [{ call_id: 'a', output: [{ type: 'input_text', text: 'x' }] }]
    expect(await refusal(submit(pool, 't', parts))).toMatchObject({
      constraint: 'tool_outputs_are_well_formed',
      hint: expect.stringContaining('Write the output as text: '),
    })
    await submit(pool, 't', [rain('a')])
  })

  test('and the INSERT waits for nobody', async ({ pool, connected }) => {
    const d1 = await HandDriven.signOn(await connected())
    await ask(pool, d1, 't', [call('a')])
    const client = await connected()
    await client.query('begin')
    await client.query('select from thread_operations for update')
    await client.query('select from tool_calls for update')
    expect(await submit(pool, 't', [rain('a')])).toMatchObject({ status: 'pending' })
    await client.query('rollback')
  })
})

import type pg from 'pg'
import { describe, expect } from 'vitest'
import { z } from 'zod'
import { type OperationKind, operationKinds } from '../../src/model/operation.ts'
import { operationData } from '../../src/operations/data/index.ts'
import { dataCheckSql } from '../../src/operations/data-check.ts'
import { test } from '../support/database.ts'
import { dataCases } from './data-cases.ts'

type Refusal = { code: string; constraint: string; message: string; hint: string }

/** Null where the check lets the data pass. */
async function refusal(pool: pg.Pool, operation: string | null, data: unknown) {
  const json = data === undefined ? null : JSON.stringify(data)
  try {
    await pool.query('select check_operation_data($1, $2)', [operation, json])
    return null
  } catch (error) {
    const { code, constraint, message, hint } = error as Refusal
    return { code, constraint, message, hint }
  }
}

const accepts = (operation: OperationKind, data: unknown) =>
  operationData[operation].safeParse(data).success
const shown = (data: unknown) => JSON.stringify(data).slice(0, 120)

describe('the check at the INSERT and the zod schemas agree', () => {
  for (const operation of operationKinds) {
    const { valid, invalid, deep = [] } = dataCases[operation]

    test(`on what ${operation} accepts`, async ({ pool }) => {
      for (const data of valid) {
        expect.soft(accepts(operation, data), `zod: ${shown(data)}`).toBe(true)
        expect.soft(await refusal(pool, operation, data), `SQL: ${shown(data)}`).toBeNull()
      }
    })

    test(`on what ${operation} refuses`, async ({ pool }) => {
      for (const data of invalid) {
        expect.soft(accepts(operation, data), `zod: ${shown(data)}`).toBe(false)
        const refused = await refusal(pool, operation, data)
        expect.soft(refused, `SQL: ${shown(data)}`).toMatchObject({
          code: '23514',
          constraint: 'operation_data_is_valid',
          message: expect.stringContaining(` of ${operation}`),
          hint: expect.stringContaining(`Valid data of ${operation}: {`),
        })
        expect.soft(refused?.message, shown(data)).not.toMatch(/is not valid$/)
      }
    })

    test(`except for what is deep inside the data of ${operation}, which zod alone refuses`, async ({
      pool,
    }) => {
      for (const data of deep) {
        expect.soft(accepts(operation, data), `zod: ${shown(data)}`).toBe(false)
        expect.soft(await refusal(pool, operation, data), `SQL: ${shown(data)}`).toBeNull()
      }
    })

    test(`and on the example that is shown for ${operation}`, async ({ pool }) => {
      const [example] = (operationData[operation].meta()?.examples ?? []) as unknown[]
      expect(accepts(operation, example)).toBe(true)
      expect(await refusal(pool, operation, example)).toBeNull()
    })
  }
})

describe('a refusal says what to write instead', () => {
  const cases: [operation: string | null, data: unknown, message: RegExp, hint: RegExp][] = [
    ['addMessage', {}, /unknown operation "addMessage"/, /mean "add_message"\? Known operations: /],
    ['fly', {}, /unknown operation "fly"/, /^Known operations: create_thread, add_message, /],
    [null, {}, /operation is missing/, /^Known operations: /],
    ['add_message', undefined, /must be an object, but it is null/, /\{"message": "Hi"\}/],
    ['add_message', '{"message": "Hi"}', /but it is the string/, /encoded twice/],
    ['create_thread', [], /must be an object, but it is an array/, /PHP .* new stdClass\(\)/],
    ['add_message', {}, /"message" is missing in data of add_message/, /\{"message": "Hi"\}/],
    ['add_message', { mesage: 'Hi' }, /unknown key "mesage"/, /mean "message"\?/],
    ['add_message', { foo: 1 }, /unknown key "foo"/, /Known keys: message\. /],
    ['create_run', { assistantId: 'a' }, /key "assistantId"/, /mean "assistant_id"\?/],
    ['create_run', { model: 'm', temprature: 1 }, /key "temprature"/, /mean "temperature"\?/],
    ['create_run', { model: 'm', stream: true }, /key "stream"/, /inturn sets "stream" itself/],
    ['create_run', { model: 'm', message: 'Hi' }, /"message"/, /belongs to add_message and add_m/],
    [
      'add_message',
      { message: 1 },
      /must be a non-empty string or an object, but .* number 1/,
      /./,
    ],
    ['add_message', { message: { text: '' } }, /"message.text"/, /mean "message.content"\?/],
    ['add_message', { message: { role: 'user' } }, /"message.content" is missing/, /./],
    ['add_message', { message: { role: 'x', content: 'y' } }, /"user", "assistant", .*"x"/, /./],
    ['create_run', { model: 'm', temperature: 3 }, /from 0 to 2 or null, .* number 3/, /./],
    ['create_run', { model: 'm', temperature: '1' }, /the string "1"/, /Write 1 without quotes/],
    [
      'create_run',
      { model: 'm', max_output_tokens: 1 },
      /whole number of at least 16 or null/,
      /./,
    ],
    ['create_run', { model: 'm', truncation: 'no' }, /must be "auto", "disabled" or null/, /./],
    ['create_run', { model: 'm', tools: '[]' }, /must be an array or null/, /encoded twice/],
    ['create_run', { model: 'm', metadata: [] }, /must be an object or null/, /new stdClass\(\)/],
    ['create_run', {}, /a run needs an assistant_id, a prompt or a model/, /"assistant_id"/],
    ['create_thread', { provider_thread_id: 'x' }, /needs a provider, "responses" or/, /./],
  ]
  for (const [operation, data, message, hint] of cases) {
    test(`${operation} with ${data === undefined ? 'NULL' : shown(data)}`, async ({ pool }) => {
      const refused = await refusal(pool, operation, data)
      expect(refused?.code).toBe('23514')
      expect(refused?.message).toMatch(message)
      expect(refused?.hint).toMatch(hint)
    })
  }

  test('and calls the constraint for unknown operations by its own name', async ({ pool }) => {
    expect(await refusal(pool, 'fly', {})).toMatchObject({ constraint: 'operation_is_known' })
  })
})

describe('the generated SQL', () => {
  test('is the same for the same schemas', () => {
    expect(dataCheckSql(operationData)).toBe(dataCheckSql({ ...operationData }))
  })

  test('takes a new kind of operation from its schema alone', async ({ pool }) => {
    const wave = z.strictObject({ hand: z.enum(['left', "the other's"]), times: z.int().min(1) })
    const client = await pool.connect()
    try {
      await client.query('begin')
      await client.query(dataCheckSql({ wave, nothing: z.strictObject({}) }))
      const check = (operation: string, data: object) =>
        client.query('select check_operation_data($1, $2)', [operation, data])
      await check('wave', { hand: "the other's", times: 2 })
      await check('nothing', {})
      await client.query('savepoint before_refusal')
      await expect(check('wave', { hand: 'left', times: 0 })).rejects.toThrow(/at least 1/)
      await client.query('rollback to before_refusal')
      await expect(check('nothing', { a: 1 })).rejects.toThrow(/unknown key "a" in data of nothing/)
    } finally {
      await client.query('rollback')
      client.release()
    }
  })

  test('is refused where a schema uses what it cannot express', () => {
    const odd = z.strictObject({ even: z.number().multipleOf(2) })
    expect(() => dataCheckSql({ odd })).toThrow(/no SQL for "multipleOf"/)
    const long = z.strictObject({ name: z.string().min(2) })
    expect(() => dataCheckSql({ long })).toThrow(/minimum length other than 1/)
    expect(() => dataCheckSql({ open: z.object({}) })).toThrow(/strict object/)
  })
})

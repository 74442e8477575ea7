import { describe, expect, expectTypeOf, test } from 'vitest'
import type { z } from 'zod'
import type { MessageInput } from '../../src/model/message.ts'
import type { OperationData } from '../../src/operations/data/index.ts'
import { operationData } from '../../src/operations/data/index.ts'
import type { message } from '../../src/operations/data/message.ts'
import { type RunParameters, runParameters } from '../../src/operations/data/run-parameters.ts'
import { ownedParameters } from '../../src/provider/run-parameters.ts'

describe('the schemas', () => {
  test('leave data as it was sent, unknown provider content included', () => {
    const data = {
      message: { content: [{ type: 'input_text', text: 'Hi', new_of_2027: { a: 1 } }] },
      assistant_id: 'asst_1',
      tools: [{ type: 'tool_of_2027', b: 2 }],
      provider_options: { c: 3 },
    }
    expect(operationData.add_message_and_run.parse(data)).toEqual(data)
  })

  test('describe every field', () => {
    for (const schema of Object.values(operationData))
      for (const [name, field] of Object.entries(schema.shape))
        expect.soft((field as z.ZodType).description, name).toMatch(/\.$/)
  })

  test('know no parameter that inturn owns', () => {
    for (const name of ownedParameters) expect(runParameters).not.toHaveProperty(name)
  })

  test('count metadata and measure its keys and values', () => {
    const takes = (metadata: object) => operationData.update_thread.safeParse({ metadata }).success
    const pairs = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [i, '']))
    expect(takes(pairs(15))).toBe(true)
    expect(takes(pairs(16))).toBe(false)
    expect(takes({ ['k'.repeat(64)]: 'v'.repeat(512) })).toBe(true)
    expect(takes({ ['k'.repeat(65)]: '' })).toBe(false)
    expect(takes({ k: 'v'.repeat(513) })).toBe(false)
  })
})

// Checked by tsc: an update of the SDK that widens a parameter shows here.
describe('the types', () => {
  test('let every value of the SDK through to the schema', () => {
    type Accepted = { [Name in keyof typeof runParameters]?: z.input<(typeof runParameters)[Name]> }
    expectTypeOf<RunParameters>().toExtend<Accepted>()
  })

  test('make of a message what the providers take', () => {
    expectTypeOf<z.output<typeof message>>().toExtend<MessageInput>()
  })

  test('tell kinds of operations apart', () => {
    expectTypeOf<OperationData<'add_message'>>().toEqualTypeOf<{ message: MessageInput }>()
    expectTypeOf<{ message: string; assistant_id: string; temperature: number }>().toExtend<
      OperationData<'add_message_and_run'>
    >()
    expectTypeOf<{ model: number }>().not.toExtend<OperationData<'create_run'>>()
    expectTypeOf<{ metadata: { a: number } }>().not.toExtend<OperationData<'update_thread'>>()
  })
})

import { expect } from 'vitest'
import { Inturn, RefusedError } from '../../src/index.ts'
import { startLine, who } from '../operations/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { errorOf } from './rows.ts'

const tools = [
  { type: 'function' as const, name: 'get_weather', strict: false, parameters: { type: 'object' } },
]

test('a turn with a tool call is answered through the client', async ({ url, pool }) => {
  await startLine(pool, 'responses')
  await using inturn = new Inturn({ databaseUrl: url })
  const thread = inturn.thread('t')
  expect(await thread.toolCalls()).toEqual([])
  expect(
    await errorOf(thread.submitToolOutputs([{ call_id: 'a', output: 'rain' }])),
  ).toBeInstanceOf(RefusedError)
  const question = await thread.send('Call get_weather.', {
    ...who,
    tools,
    tool_deadline_ms: 60_000,
    on_tool_deadline: 'cancel',
  })
  const [call] = await waitFor(async () => {
    const calls = await thread.toolCalls()
    return calls.length > 0 && calls
  })
  expect(call).toMatchObject({ operation_id: question.id, name: 'get_weather', output: null })
  const wrong = thread.submitToolOutputs([{ call_id: 'other', output: 'rain' }])
  expect(await errorOf(wrong)).toMatchObject({
    code: 'call_was_asked',
    hint: expect.stringContaining(call?.call_id ?? '?'),
  })
  const answer = await thread.submitToolOutputs([{ call_id: call?.call_id ?? '', output: 'rain' }])
  expect(await answer.result()).toEqual({
    operation_id: question.id,
    call_ids: [call?.call_id],
    missing: [],
  })
  expect(await question.result()).toMatchObject({ text: 'According to get_weather: rain' })
  expect(await question.toolCalls()).toMatchObject([
    { call_id: call?.call_id, output: 'rain', is_error: false, answered_by: expect.any(String) },
  ])
  expect(await thread.toolCalls()).toEqual([])
})

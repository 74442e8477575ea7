import { expect } from 'vitest'
import { test } from '../support/database.ts'
import { inturn } from './cli.ts'

test('an assistant is added, listed, shown, replaced and removed', async ({ url }) => {
  const assistants = (...args: string[]) => inturn(['assistants', ...args], { databaseUrl: url })
  const tools = '[{"type": "web_search"}]'
  const added = await assistants('add', 'asst_a', '--model', 'gpt-5', '--tools', tools)
  expect(added).toMatchObject({ code: 0, stdout: 'saved asst_a\n' })
  await assistants('add', 'asst_a', '--model', 'gpt-5', '--instructions', 'Be brief.')
  await assistants('add', 'asst_b', '--prompt', '{"id": "pmpt_1"}')

  const list = await assistants('list')
  expect(list.stdout).toMatch(/^asst_a +gpt-5 +0 +Be brief\.$/m)
  expect(list.stdout).toMatch(/^asst_b +prompt pmpt_1/m)
  expect(JSON.parse((await assistants('list', '--json')).stdout)).toHaveLength(2)
  expect(JSON.parse((await assistants('show', 'asst_a')).stdout)).toEqual({
    id: 'asst_a',
    model: 'gpt-5',
    prompt: null,
    instructions: 'Be brief.',
    tools: null,
    parameters: {},
  })

  expect((await assistants('remove', 'asst_a')).stdout).toBe('removed asst_a\n')
  const gone = await assistants('show', 'asst_a')
  expect(gone.code).toBe(1)
  expect(gone.stderr).toMatch(/^error: There is no assistant asst_a\.\nhint: /)
})

const refusals: Array<[string, string[], RegExp]> = [
  ['neither a model nor a prompt', [], /needs a --model or a --prompt/],
  ['tools that are no array', ['--model', 'm', '--tools', '{}'], /--tools must be a JSON array/],
  ['a prompt that is no object', ['--prompt', '"pmpt_1"'], /--prompt must be a JSON object/],
  ['parameters that are no JSON', ['--model', 'm', '--parameters', 'x'], /--parameters is no JSON/],
]
for (const [what, args, message] of refusals) {
  test(`an assistant with ${what} is refused`, async ({ url }) => {
    const { code, stderr } = await inturn(['assistants', 'add', 'a', ...args], { databaseUrl: url })
    expect(stderr).toMatch(message)
    expect(code).toBe(2)
  })
}

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { loadTools } from '../../src/dispatcher/load-tools.ts'
import { ConfigError } from '../../src/errors.ts'

const schema = '{ safeParseAsync: async (data) => ({ success: true, data }) }'
const exporting = (tools: string) => `export default ${tools}`

async function load(text: string, name = 'tools.mjs') {
  const folder = await mkdtemp(join(tmpdir(), 'inturn-tools-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, name), text)
  return loadTools(join(folder, name))
}

describe('a module of tools', () => {
  test.for(['tools.mjs', 'tools.ts', 'tools.mts'])('is loaded: %s', async (name) => {
    const typed = name.endsWith('ts') ? ': unknown' : ''
    const text = exporting(`{ f: { arguments: ${schema}, run(args${typed}) { return args } } }`)
    expect(Object.keys(await load(text, name))).toEqual(['f'])
  })

  test('that is not there is named, and where to write it', async () => {
    await expect(loadTools('./no-such-tools.ts')).rejects.toThrow(
      /^--tools \.\/no-such-tools\.ts: there is no such file/,
    )
  })

  test.for<[what: string, text: string, says: RegExp]>([
    ['has no default export', 'export const tools = {}', /no default export: write export default/],
    ['exports a function', exporting('() => {}'), /no object of tools/],
    ['exports nothing', exporting('{}'), /names no tool/],
    [
      'has a tool that cannot run',
      exporting(`{ f: { arguments: ${schema} } }`),
      /"f" has no function "run"/,
    ],
    [
      'has a tool without a schema',
      exporting('{ f: { run() {} } }'),
      /"arguments" of tool "f" is no zod/,
    ],
    [
      'has a tool without time',
      exporting(`{ f: { arguments: ${schema}, timeoutMs: 0, run() {} } }`),
      /"timeoutMs" of tool "f"/,
    ],
    ['throws', 'throw new Error("no key")', /cannot be loaded: no key/],
    ['is no program', 'export default {', /cannot be loaded: /],
  ])('that %s is refused', async ([, text, says]) => {
    const problem = await load(text).catch((error) => error)
    expect(problem).toBeInstanceOf(ConfigError)
    expect(problem.message).toMatch(/^--tools /)
    expect(problem.message).toMatch(says)
  })
})

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

/** Runs `code` with a `createLogger` in a process of its own; returns what it printed, line by line. */
async function printed(code: string): Promise<string[]> {
  const module = new URL('../src/log.ts', import.meta.url).href
  const script = `const { createLogger } = await import('${module}'); ${code}`
  const { stdout } = await promisify(execFile)(process.execPath, [
    '--input-type=module',
    '-e',
    script,
  ])
  return stdout.trim().split('\n')
}

test('off a terminal each event is a line of JSON, also right before the process exits', async () => {
  const lines = await printed(`
    const log = createLogger({ level: 'warn' })
    log.info('not this')
    log.warn({ operation: 7 }, 'this')
    process.exit(0)`)
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ operation: 7, msg: 'this' }])
})

test('for people it is one readable line', async () => {
  const lines = await printed(
    `createLogger({ format: 'pretty' }).info({ operation: 7 }, 'completed')`,
  )
  expect(lines).toHaveLength(1)
  expect(lines[0]).toMatch(/INFO.*completed.*"operation":7/)
})

test('an error is logged without what may quote rows or messages', async () => {
  const [line] = await printed(`
    const error = Object.assign(new Error('refused'), { code: '23514', detail: 'Failing row (secret)' })
    createLogger().error({ err: error }, 'could not settle')`)
  expect(JSON.parse(line ?? '')).toMatchObject({ err: { message: 'refused', code: '23514' } })
  expect(line).not.toContain('secret')
})

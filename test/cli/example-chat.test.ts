import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished } from 'vitest'
import tools from '../../examples/tools.ts'
import { environmentWith } from '../../src/config.ts'
import { startLine } from '../operations/line.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const example = fileURLToPath(new URL('../../examples/chat.ts', import.meta.url))

/** The chat as somebody types it. */
function chat(databaseUrl: string) {
  const child = spawn(process.execPath, [example], { env: environmentWith({ databaseUrl }) })
  onTestFinished(() => void child.kill('SIGKILL'))
  let shown = ''
  for (const output of [child.stdout, child.stderr])
    output.setEncoding('utf8').on('data', (text) => {
      shown += text
    })
  return {
    type: (line: string) => child.stdin.write(`${line}\n`),
    shows: (pattern: RegExp) =>
      waitFor(() => pattern.test(shown), { message: `the chat shows ${pattern}: ${shown}` }),
    async leaves() {
      const closed = once(child, 'close')
      child.stdin.end()
      expect(await closed).toEqual([0, null])
      return shown
    },
  }
}

test('the chat prints an answer while it comes, stops it, and answers what came meanwhile', async ({
  pool,
  url,
}) => {
  const latency = { queuedMs: 0, thinkMs: 0, perTokenMs: 20 }
  const line = await startLine(pool, 'responses', { streams: true, emulator: { latency } })
  const { type, shows, leaves } = chat(url)
  await shows(/\/stop/)
  type('Write 10000 words about a queue.')
  await shows(/It began quietly/)
  type('reply with exactly: two')
  type('/stop')
  await shows(/\[Operation \d+ was cancelled/)
  await shows(/two/)
  type('/stop')
  await shows(/nothing to stop/)
  type('/busy nonsense')
  await shows(/there are enqueue/)
  await leaves()
  expect(line.emulator.runs().map(({ status }) => status)).toEqual(['cancelled', 'completed'])
  expect(line.emulator.conflicts()).toEqual([])
})

test('the chat takes a script: it leaves when all of it is answered', async ({ pool, url }) => {
  await startLine(pool, 'responses', { streams: true, tools })
  const { type, leaves } = chat(url)
  type('My name is Ada.')
  type('What is the weather in Oslo?')
  type('What is my name?')
  const shown = await leaves()
  expect(shown).toContain('[get_weather {"city":"Oslo"}]')
  expect(shown).toContain('According to get_weather: 21 degrees and sun in Oslo')
  expect(shown).toContain('Your name is Ada.')
})

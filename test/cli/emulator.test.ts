import { expect, test } from 'vitest'
import { inturn, start } from './cli.ts'

test('the emulator serves until it is told to stop, and then exits with 0', async () => {
  const emulator = start(['emulator', '--port', '0', '--json'])
  const [line] = await emulator.printed(/\{.*\}/)
  const { url, port } = JSON.parse(line)
  const created = await fetch(`${url}/conversations`, {
    method: 'POST',
    headers: { authorization: 'Bearer any', 'content-type': 'application/json' },
    body: '{}',
  })
  expect(await created.json()).toMatchObject({ id: expect.stringMatching(/^conv_/) })
  const stats = await fetch(`http://127.0.0.1:${port}/emulator/stats`)
  expect(await stats.json()).toMatchObject({ requests: 1, conflicts: 0 })

  const second = await inturn(['emulator', '--port', String(port)])
  expect(second.code).toBe(1)
  expect(second.stderr).toMatch(/EADDRINUSE.*\nhint: Choose another/)

  emulator.child.kill('SIGTERM')
  expect(await emulator.ended).toBe(0)
})

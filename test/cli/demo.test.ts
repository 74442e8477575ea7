import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { inturn, start } from './cli.ts'

test('the stress test: without inturn most is lost, with it all get through in order', async () => {
  const args = ['demo', '--run-ms', '40', '--json']
  const { code, stdout, stderr } = await inturn(args, { databaseUrl: inject('serverUrl') })
  expect(stderr).toMatch(/^starting.*\nassistants, without inturn …\nassistants, with inturn …\n/)
  const results = JSON.parse(stdout)
  expect(results.map(({ provider }: { provider: string }) => provider)).toEqual([
    'assistants',
    'responses',
  ])
  for (const { without, with: inturned } of results) {
    expect(inturned).toMatchObject({ gotThrough: 50, of: 50, conflicts: 0, inOrder: true })
    expect(without).toMatchObject({ of: 50, inOrder: false })
    expect(without.gotThrough).toBeLessThan(25)
    expect(without.conflicts).toBeGreaterThan(50)
  }
  expect(code).toBe(0)
}, 60_000)

test('without a server it brings its own, and Ctrl-C leaves nothing of it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'inturn-demo-test-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  // As root, PostgreSQL runs under another account.
  await chmod(folder, 0o755)
  const running = start(['demo'], { env: { TMPDIR: folder } })
  await running.printed(/assistants, with inturn/)
  expect(await readdir(folder)).toHaveLength(1)
  running.child.kill('SIGINT')
  expect(await running.ended).toBe(130)
  expect(running.stdout()).toBe('')
  expect(await readdir(folder)).toEqual([])
}, 30_000)

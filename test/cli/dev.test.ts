import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { query } from '../support/query.ts'
import { waitFor } from '../support/wait-for.ts'
import { inturn, start } from './cli.ts'

test('dev serves the row it tells to insert, and keeps its data for the next time', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'inturn-dev-test-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  // As root, PostgreSQL runs under another account.
  await chmod(folder, 0o755)
  const dataDir = join(folder, 'data')
  const args = ['dev', '--emulator', '--data-dir', dataDir]

  const first = start(args)
  const [, url = '', insert = ''] = await first.printed(/psql '(\S+)' -c "(INSERT .*)"\n/)
  const [, select = ''] = await first.printed(/-c "(SELECT .*)"\n/)
  await query(url, insert.replaceAll('\\"', '"'))
  const answered = () => query(url, select).then(([row]) => row.status === 'completed' && row)
  expect(await waitFor(answered)).toMatchObject({ answer: 'Noted: "Hi"', error: null })

  const beside = await inturn(args)
  expect(beside.code).toBe(1)
  expect(beside.stderr).toContain('another server runs in')
  first.child.kill('SIGINT')
  expect(await first.ended).toBe(0)

  const second = start(args)
  const [, again = ''] = await second.printed(/psql '(\S+)'/)
  expect(await query(again, select)).toHaveLength(1)
  second.child.kill('SIGTERM')
  expect(await second.ended).toBe(0)
}, 30_000)

test('dev with both --emulator and --openai is refused', async () => {
  const { code, stderr } = await inturn(['dev', '--emulator', '--openai'])
  expect(stderr).toContain('Write --emulator or --openai.')
  expect(code).toBe(2)
})

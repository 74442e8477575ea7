import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type pg from 'pg'
import { expect } from 'vitest'
import { startLine } from '../operations/line.ts'
import { insertArchive } from '../support/archive-rows.ts'
import { test as base } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { inturn, start } from './cli.ts'

const test = base.extend('folder', async ({}, { onCleanup }) => {
  const folder = await mkdtemp(join(tmpdir(), 'inturn-export-'))
  onCleanup(() => rm(folder, { recursive: true }))
  return folder
})

const records = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

test('a thread is archived by enqueue, listed, and exported', async ({ pool, url }) => {
  await startLine(pool, 'responses')
  await inturn(['enqueue', 'user:1', 'add_message', '--message', 'Hi'], { databaseUrl: url })
  const archive = ['enqueue', 'user:1', 'archive_thread', '{"reason": "why not"}', '--wait']
  expect(await inturn(archive, { databaseUrl: url })).toMatchObject({ code: 0, stderr: '' })
  const { rows } = await pool.query('select * from thread_archives')
  const { stdout } = await inturn(['archives'], { databaseUrl: url })
  expect(stdout).toMatch(/archive +thread +gen +items .*\n +\d+ +user:1 +1 +1 +1 +0 .*why not\n$/)
  const json = await inturn(['archives', 'user:1', '--json'], { databaseUrl: url })
  expect(JSON.parse(json.stdout)).toMatchObject([{ id: rows[0].id, thread_id: 'user:1', items: 1 }])
  const none = await inturn(['archives', 'user:2'], { databaseUrl: url })
  expect(none).toEqual({ code: 0, stdout: 'There are none.\n', stderr: '' })

  const exported = await inturn(['export', String(rows[0].id)], { databaseUrl: url })
  expect(exported).toMatchObject({ code: 0, stderr: '' })
  expect(records(exported.stdout)).toMatchObject([
    { record: 'archive', id: rows[0].id, reason: 'why not' },
    { record: 'item', position: 1, role: 'user', text: 'Hi', item: { type: 'message' } },
  ])
})

test('an export holds the archive, then all items in order, then the runs', async ({
  pool,
  url,
}) => {
  const id = await insertArchive(pool, 't', { items: 350 })
  const { code, stdout } = await inturn(['export', String(id)], { databaseUrl: url })
  expect(code).toBe(0)
  const lines = records(stdout)
  expect(lines.map(({ record }) => record)).toEqual(['archive', ...Array(350).fill('item'), 'run'])
  expect(lines[0]).toMatchObject({ thread_id: 't', items: 350, runs: 1, input_tokens: 3 })
  expect(lines.slice(1, -1).map(({ text }) => text)).toEqual(
    Array.from({ length: 350 }, (_, i) => `message ${i + 1}`),
  )
  expect(lines.at(-1)).toMatchObject({ run_id: 'resp_1', turn: 2, usage: { total_tokens: 7 } })
})

test('--thread exports the newest archive of each of its provider threads', async ({
  pool,
  url,
}) => {
  await insertArchive(pool, 't', { items: 1 })
  const newer = await insertArchive(pool, 't', { items: 2 })
  const second = await insertArchive(pool, 't', { items: 3, generation: 2 })
  await insertArchive(pool, 'other', { items: 1 })
  const { stdout } = await inturn(['export', '--thread', 't'], { databaseUrl: url })
  const heads = records(stdout).filter(({ record }) => record === 'archive')
  expect(heads.map(({ id }) => id)).toEqual([newer, second])
  expect(records(stdout)).toHaveLength(2 + 5 + 2)
})

test('--file is written as a whole, tells how far it is, and replaces nothing without --force', async ({
  pool,
  url,
  folder,
}) => {
  const id = String(await insertArchive(pool, 't', { items: 120 }))
  const file = join(folder, 'out.jsonl')
  const first = await inturn(['export', id, '--file', file, '--progress'], { databaseUrl: url })
  expect(first).toEqual({ code: 0, stdout: '', stderr: '120 of 120 items\n' })
  expect(records(await readFile(file, 'utf8'))).toHaveLength(122)
  expect(await readdir(folder)).toEqual(['out.jsonl'])

  await writeFile(file, 'mine')
  const again = await inturn(['export', id, '--file', file], { databaseUrl: url })
  expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('is there already') })
  expect(again.stderr).toContain('--force')
  expect(await readFile(file, 'utf8')).toBe('mine')
  const forced = await inturn(['export', id, '--file', file, '--force'], { databaseUrl: url })
  expect(forced.code).toBe(0)
  expect(records(await readFile(file, 'utf8'))).toHaveLength(122)

  const nowhere = join(folder, 'none', 'out.jsonl')
  const failed = await inturn(['export', id, '--file', nowhere], { databaseUrl: url })
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('cannot be written') })
  expect(failed.stderr).toContain('hint: Name a file in a folder that is there')
})

test('a signal ends an export without a file', async ({ pool, url, folder }) => {
  const id = String(await insertArchive(pool, 't', { items: 30_000 }))
  const running = start(['export', id, '--file', join(folder, 'out.jsonl')], { databaseUrl: url })
  await waitFor(async () => (await readdir(folder)).some((name) => name.endsWith('.partial')))
  running.child.kill('SIGINT')
  expect(await running.ended).toBe(130)
  expect(await readdir(folder)).toEqual([])
  expect(running.stderr()).toBe('')
})

test('a reader that stops ends the export, which never holds more than he takes', async ({
  pool,
  url,
}) => {
  // 300 MB of it.
  const id = String(await insertArchive(pool, 't', { items: 30_000, itemBytes: 10_000 }))
  const running = start(['export', id], { databaseUrl: url })
  const { pid, stdout } = running.child
  await running.printed(/"position":1,/)
  stdout?.pause()
  await waitFor(noneAskedFor(pool, 20))
  expect(running.child.exitCode).toBeNull()
  const { stdout: kilobytes } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)])
  const megabytes = Number(kilobytes) / 1_000
  expect(megabytes).toBeLessThan(300)
  stdout?.destroy()
  expect(await running.ended).toBe(0)
  expect(running.stderr()).toBe('')
})

/** True once the export has asked for no page between so many looks. */
function noneAskedFor(pool: pg.Pool, looks: number): () => Promise<boolean> {
  let last: number | undefined
  let same = 0
  return async () => {
    const { rows } = await pool.query(
      `select query_start from pg_stat_activity
        where application_name = 'inturn cli' and query like '%archived_messages%'`,
    )
    const asked = rows[0]?.query_start?.getTime()
    same = asked !== undefined && asked === last ? same + 1 : 0
    last = asked
    return same > looks
  }
}

test.for([
  [
    'neither a number nor a thread',
    ['export'],
    2,
    'Write either the number of an archive or --thread.',
  ],
  [
    'both',
    ['export', '1', '--thread', 't'],
    2,
    'Write either the number of an archive or --thread.',
  ],
  ['what is no number', ['export', 'x'], 2, 'Write the number of an archive.'],
  ['--force without --file', ['export', '1', '--force'], 2, '--force is only for --file.'],
  ['a number that is none', ['export', '4711'], 1, 'There is no archive 4711.'],
  [
    'a thread without',
    ['export', '--thread', 'a b'],
    1,
    'inturn enqueue "a b" archive_thread --wait',
  ],
  ['a limit that is none', ['archives', '--limit', 'all'], 2, 'Write a whole number.'],
] as const)('%s is refused', async ([, args, code, message], { url }) => {
  const told = await inturn(args, { databaseUrl: url })
  expect(told).toMatchObject({ code, stdout: '', stderr: expect.stringContaining(message) })
})

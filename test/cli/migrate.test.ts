import { expect } from 'vitest'
import { emptyDatabase, test } from '../support/database.ts'
import { query } from '../support/query.ts'
import { inturn } from './cli.ts'

test('migrate creates the tables, says what it applied, and has nothing to do the second time', async () => {
  await using empty = await emptyDatabase()
  const options = { databaseUrl: empty.url }

  const before = await inturn(['migrate', '--status'], options)
  expect(before.code).toBe(1)
  expect(before.stdout).toMatch(/^pending {2}\d+_tables$/m)
  expect(before.stdout).toContain('Run "inturn migrate"')

  const refused = await inturn(['status'], options)
  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(/holds no tables of inturn.*\nhint: Run "inturn migrate" once/)

  const applied = await inturn(['migrate'], options)
  expect(applied.code).toBe(0)
  expect(applied.stdout).toMatch(/^applied \d+_tables$/m)
  expect(applied.stdout).toContain('Schema "public" is up to date')

  const again = JSON.parse((await inturn(['migrate', '--json'], options)).stdout)
  expect(again).toMatchObject({ applied: [], generatedChanged: false })
  expect(again.already.length).toBeGreaterThan(0)

  const after = await inturn(['migrate', '--status', '--json'], options)
  expect(after.code).toBe(0)
  expect(JSON.parse(after.stdout)).toMatchObject({ current: true, pending: [] })
})

test('dispatch refuses a database that was not migrated, naming the schema to migrate', async () => {
  await using empty = await emptyDatabase()
  const args = ['dispatch', '--schema', 'own', '--openai-api-key', 'any']
  const { code, stderr } = await inturn(args, { databaseUrl: empty.url })
  expect(code).toBe(1)
  expect(stderr).toContain('hint: Run "inturn migrate --schema own"')
})

test('--schema keeps everything in a schema of its own', async () => {
  await using empty = await emptyDatabase()
  const options = { databaseUrl: empty.url }
  expect((await inturn(['migrate', '--schema', 'own'], options)).code).toBe(0)
  const enqueued = await inturn(['enqueue', 't1', 'create_thread', '--schema', 'own'], options)
  expect(enqueued.code).toBe(0)
  expect(await query(empty.url, 'select thread_id from own.thread_operations')).toEqual([
    { thread_id: 't1' },
  ])
  expect(await query(empty.url, `select * from pg_tables where schemaname = 'public'`)).toEqual([])
})

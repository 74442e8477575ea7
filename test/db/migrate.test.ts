import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import { migrate, migrationStatus } from '../../src/db/migrate.ts'
import { emptyDatabase, test } from '../support/database.ts'
import { fixtureMigrations } from '../support/fixture-migrations.ts'
import { query, withClient } from '../support/query.ts'

const files = {
  '1_tables': 'create table lines (id int);',
  '2_functions': `
    create function one() returns int language plpgsql set search_path from current as $$
    begin
      insert into lines values (1);
      return 1;
    end $$;
    create view all_lines as select * from lines;`,
}
const generatedSql = `create or replace function check_operation_data(data jsonb) returns text
  language sql as $$ select 'fine' $$;`

test('it applies what is missing in the order of names, and a second time nothing', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  const options = { databaseUrl: database.url, migrationsDir: migrations.dir, generatedSql }
  expect(await migrationStatus(options)).toEqual({
    applied: [],
    pending: ['1_tables', '2_functions'],
    generated: 'outdated',
  })
  expect(await migrate(options)).toEqual({
    applied: ['1_tables', '2_functions'],
    already: [],
    generatedChanged: true,
    clockwork: 'current',
  })
  expect(await query(database.url, 'select one(), check_operation_data(null)')).toEqual([
    { one: 1, check_operation_data: 'fine' },
  ])
  await migrations.write('3_more', 'alter table lines add column name text;')
  expect(await migrate(options)).toEqual({
    applied: ['3_more'],
    already: ['1_tables', '2_functions'],
    generatedChanged: false,
    clockwork: 'current',
  })
  expect(await migrate(options)).toMatchObject({ applied: [], generatedChanged: false })
  expect(await migrationStatus(options)).toEqual({
    applied: ['1_tables', '2_functions', '3_more'],
    pending: [],
    generated: 'current',
  })
})

test('each migration is recorded the way Prisma records it', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  await migrate({ databaseUrl: database.url, migrationsDir: migrations.dir })
  const rows = await query(
    database.url,
    'select *, finished_at >= started_at as in_order from _prisma_migrations order by 4',
  )
  expect(rows).toMatchObject(
    Object.entries(files).map(([name, sql]) => ({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      checksum: createHash('sha256').update(sql).digest('hex'),
      migration_name: name,
      logs: null,
      rolled_back_at: null,
      applied_steps_count: 1,
      in_order: true,
    })),
  )
})

test('the generated function is written anew when its text changes', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  const options = { databaseUrl: database.url, migrationsDir: migrations.dir, generatedSql }
  await migrate(options)
  const changed = { ...options, generatedSql: generatedSql.replace("'fine'", "'finer'") }
  expect(await migrationStatus(changed)).toMatchObject({ pending: [], generated: 'outdated' })
  expect(await migrate(changed)).toMatchObject({ applied: [], generatedChanged: true })
  expect(await query(database.url, 'select check_operation_data(null) as said')).toEqual([
    { said: 'finer' },
  ])
})

test('many at once apply each migration exactly once', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  const options = { databaseUrl: database.url, migrationsDir: migrations.dir, generatedSql }
  const results = await Promise.all(Array.from({ length: 6 }, () => migrate(options)))
  expect(results.flatMap((result) => result.applied).sort()).toEqual(['1_tables', '2_functions'])
  expect(results.filter((result) => result.generatedChanged)).toHaveLength(1)
  for (const { applied, already } of results) {
    expect([...applied, ...already].sort()).toEqual(['1_tables', '2_functions'])
  }
})

test('a schema of its own is created, and everything is in it', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  const options = { databaseUrl: database.url, migrationsDir: migrations.dir, generatedSql }
  await migrate({ ...options, schema: 'Turns' })
  const [found] = await query(
    database.url,
    `select to_regclass('"Turns".lines') is not null as ours, to_regclass('public.lines') as public,
       to_regclass('public._prisma_migrations') as history, "Turns".one()`,
  )
  expect(found).toEqual({ ours: true, public: null, history: null, one: 1 })
  expect(await migrationStatus({ ...options, schema: 'Turns' })).toMatchObject({ pending: [] })
  expect(await migrationStatus(options)).toMatchObject({ applied: [] })
})

test('functions that pin the search path never take a temporary table for ours', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  await migrate({ databaseUrl: database.url, migrationsDir: migrations.dir })
  await withClient(database.url, async (client) => {
    await client.query('create temporary table lines (id int)')
    await client.query('select one()')
    const { rows } = await client.query('select count(*)::int as n from public.lines')
    expect(rows).toEqual([{ n: 1 }])
  })
})

test('a migration that fails leaves nothing of itself, and what was before it stays', async () => {
  await using migrations = await fixtureMigrations({
    '1_good': 'create table good (id int);',
    '2_bad': 'create table half (id int); select 1 / 0;',
  })
  await using database = await emptyDatabase()
  const options = { databaseUrl: database.url, migrationsDir: migrations.dir }
  await expect(migrate(options)).rejects.toMatchObject({
    code: 'migration_failed',
    message: expect.stringMatching(/2_bad failed: division by zero/),
  })
  expect(await query(database.url, "select to_regclass('half') as half")).toEqual([{ half: null }])
  await migrations.write('2_bad', 'select 1;\nselect nonsense;')
  await expect(migrate(options)).rejects.toMatchObject({
    message: expect.stringMatching(/2_bad failed: .*nonsense.* \(line 2\)/),
  })
  await migrations.write('2_bad', 'create table whole (id int);')
  expect(await migrate(options)).toMatchObject({ applied: ['2_bad'], already: ['1_good'] })
})

test('a role that may not create schemas can migrate one that it was given', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  const role = new URL(database.url).pathname.slice(1)
  await query(database.url, `create role ${role} login password 'pass'`)
  try {
    await query(database.url, `create schema given authorization ${role}`)
    const url = new URL(database.url)
    url.username = role
    url.password = 'pass'
    const options = { databaseUrl: url.href, migrationsDir: migrations.dir }
    expect(await migrate({ ...options, schema: 'given' })).toMatchObject({
      already: [],
      clockwork: 'denied',
    })
    await query(database.url, `create schema given_boss authorization ${role}`)
    expect(await migrate({ ...options, schema: 'given' })).toMatchObject({
      applied: [],
      clockwork: 'current',
    })
    await expect(migrate({ ...options, schema: 'other' })).rejects.toMatchObject({
      code: 'migration_failed',
      message: expect.stringContaining('permission denied'),
    })
  } finally {
    await query(database.url, `drop owned by ${role}`)
    await query(database.url, `drop role ${role}`)
  }
})

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

test('a file that was changed after it was applied is refused by name', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  const options = { databaseUrl: database.url, migrationsDir: migrations.dir }
  await migrate(options)
  await migrations.write('1_tables', `${files['1_tables']} -- changed`)
  const refusal = { code: 'migration_changed', message: expect.stringContaining('1_tables') }
  await expect(migrate(options)).rejects.toMatchObject(refusal)
  await expect(migrationStatus(options)).rejects.toMatchObject(refusal)
})

test("another project's migrations are refused, and a schema beside them works", async () => {
  await using theirs = await fixtureMigrations({ '20240101000000_init': 'create table users ();' })
  await using ours = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  await migrate({ databaseUrl: database.url, migrationsDir: theirs.dir })
  const options = { databaseUrl: database.url, migrationsDir: ours.dir }
  const refusal = {
    code: 'migration_foreign',
    message: expect.stringContaining('20240101000000_init'),
    hint: expect.stringContaining('--schema inturn'),
  }
  await expect(migrate(options)).rejects.toMatchObject(refusal)
  await expect(migrationStatus(options)).rejects.toMatchObject(refusal)
  expect(await query(database.url, "select to_regclass('lines') as t")).toEqual([{ t: null }])
  expect(await migrate({ ...options, schema: 'inturn' })).toMatchObject({
    applied: ['1_tables', '2_functions'],
  })
})

test('a schema that a newer version has migrated is refused', async () => {
  await using migrations = await fixtureMigrations(files)
  await using newer = await fixtureMigrations({ ...files, '3_newer': 'select 1' })
  await using database = await emptyDatabase()
  await migrate({ databaseUrl: database.url, migrationsDir: newer.dir })
  await expect(
    migrate({ databaseUrl: database.url, migrationsDir: migrations.dir }),
  ).rejects.toMatchObject({
    code: 'migration_unknown',
    message: expect.stringContaining('3_newer'),
  })
})

test('a migration that Prisma left unfinished is refused, one marked rolled back runs again', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  const options = { databaseUrl: database.url, migrationsDir: migrations.dir }
  await migrate(options)
  await query(database.url, 'drop view all_lines')
  await query(database.url, 'drop function one()')
  await query(
    database.url,
    "update _prisma_migrations set finished_at = null where migration_name = '2_functions'",
  )
  await expect(migrate(options)).rejects.toMatchObject({ code: 'migration_unfinished' })
  await query(
    database.url,
    'update _prisma_migrations set rolled_back_at = now() where finished_at is null',
  )
  expect(await migrate(options)).toMatchObject({ applied: ['2_functions'] })
})

test('the wait for another migration is bounded', async () => {
  await using migrations = await fixtureMigrations(files)
  await using database = await emptyDatabase()
  await withClient(database.url, async (other) => {
    await other.query('select pg_advisory_lock(72707369)')
    await expect(
      migrate({ databaseUrl: database.url, migrationsDir: migrations.dir, lockTimeoutMs: 50 }),
    ).rejects.toMatchObject({ code: 'migration_locked' })
  })
})

test.for(['', 'my schema', '1st', 'pg_mine', 'information_schema', 'x'.repeat(64), 'a"b'])(
  'the schema name %j is refused',
  async (schema, { url }) => {
    await expect(migrate({ databaseUrl: url, schema })).rejects.toMatchObject({
      code: 'schema_invalid',
    })
  },
)

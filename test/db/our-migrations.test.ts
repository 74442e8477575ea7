import { expect } from 'vitest'
import { migrate, migrationStatus } from '../../src/db/migrate.ts'
import { operationData } from '../../src/operations/data/index.ts'
import { dataCheckSql } from '../../src/operations/data-check.ts'
import { emptyDatabase, test } from '../support/database.ts'

const generatedSql = dataCheckSql(operationData)

test('the migrations of this package are all applied to the databases of tests', async ({
  url,
}) => {
  expect(await migrationStatus({ databaseUrl: url, generatedSql })).toMatchObject({
    pending: [],
    generated: 'current',
  })
})

test('they work in a schema of their own, and leave nothing in public', async () => {
  await using database = await emptyDatabase()
  await migrate({ databaseUrl: database.url, generatedSql, schema: 'inturn' })
  expect(
    await migrationStatus({ databaseUrl: database.url, generatedSql, schema: 'inturn' }),
  ).toMatchObject({ pending: [], generated: 'current' })
})

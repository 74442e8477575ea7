import { readFile } from 'node:fs/promises'
import { expect } from 'vitest'
import { createPrisma } from '../../src/db/prisma.ts'
import { Prisma } from '../../src/generated/prisma/client.ts'
import { test } from '../support/database.ts'
import { diffToPrismaSchema } from '../support/prisma-diff.ts'
import { dumpSchema } from '../support/schema-dump.ts'

const emptyDiff = '-- This is an empty migration.\n'

test('schema.prisma says what the migrations make', async ({ url }) => {
  expect(await diffToPrismaSchema(url)).toBe(emptyDiff)
})

test('the committed snapshot shows what the migrations make', async ({ pool }) => {
  await expect(await dumpSchema(pool)).toMatchFileSnapshot('../../prisma/schema.snapshot.sql')
})

test('the views have the columns that schema.prisma explains, and Prisma reads them', async ({
  pool,
}) => {
  const explained = {
    lane_states: Object.values(Prisma.LaneStateScalarFieldEnum),
    thread_states: Object.values(Prisma.ThreadStateScalarFieldEnum),
    thread_stats: Object.values(Prisma.ThreadStatsScalarFieldEnum),
    dead_letters: Object.values(Prisma.DeadLetterScalarFieldEnum),
    thread_timeline: Object.values(Prisma.ThreadTimelineScalarFieldEnum),
    // The client leaves out intervals, for which it has no type.
    waiting_operations: [
      ...Object.values(Prisma.WaitingOperationScalarFieldEnum),
      'waitedForThread',
      'waitedAsHead',
    ],
  }
  const { rows } = await pool.query(
    `select c.table_name, array_agg(c.column_name::text) as columns
       from information_schema.columns c join information_schema.views using (table_schema, table_name)
      where table_schema = 'public' group by 1`,
  )
  const found = Object.fromEntries(rows.map((row) => [row.table_name, row.columns.toSorted()]))
  const snakeCase = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  expect(found).toEqual(
    Object.fromEntries(
      Object.entries(explained).map(([view, names]) => [view, names.map(snakeCase).toSorted()]),
    ),
  )

  const prisma = createPrisma(pool)
  const lane = { provider: 'responses', key: '0123456789ab', maxRuns: 1 }
  await prisma.lane.create({ data: lane })
  expect(await prisma.laneState.findMany()).toMatchObject([{ ...lane, state: 'open', runs: 0n }])
  const { id } = await prisma.threadOperation.create({
    data: { threadId: 'by Prisma', operation: 'add_message', data: { message: 'Hi' } },
  })
  expect(await prisma.threadState.findMany()).toMatchObject([{ threadId: 'by Prisma' }])
  await pool.query(`select get_thread('42')`)
  const page = { where: { threadId: { gt: 'a' } }, orderBy: { threadId: 'asc' }, take: 10 } as const
  expect(await prisma.threadStats.findMany(page)).toMatchObject([
    { threadId: 'user:42', state: 'idle', userId: '42', waiting: 0n, messages: 0n },
  ])
  expect(await prisma.waitingOperation.findMany()).toMatchObject([{ id, position: 1n }])
  expect(await prisma.deadLetter.findMany()).toEqual([])
  expect(await prisma.threadTimeline.findMany()).toMatchObject([{ operationId: id }])
})

test('every table, view and column is explained by a sentence', async () => {
  const schema = await readFile(new URL('../../prisma/schema.prisma', import.meta.url), 'utf8')
  const lines = schema.slice(schema.indexOf('datasource db {')).split('\n').slice(3)
  const unexplained = lines.filter((line, i) => {
    const declares = /^(model|view) |^ {2}\w+ +\w/.test(line)
    return declares && !/^ *\/\/\/ [A-Z`].*\.$/.test(lines[i - 1] ?? '')
  })
  expect(unexplained).toEqual([])
})

test('a database that differs from schema.prisma is noticed', async ({ url, pool }) => {
  await pool.query(`
    alter table threads add column surplus text;
    alter table threads alter last_turn drop default;
    drop index line_by_place;
    create index line_by_place on thread_operations (thread_id, place);`)
  const diff = await diffToPrismaSchema(url)
  expect(diff).toContain('DROP COLUMN "surplus"')
  expect(diff).toContain('ALTER COLUMN "last_turn" SET DEFAULT 0')
  expect(diff).toContain('CREATE INDEX "line_by_place"')
})

import { expect } from 'vitest'
import { createPool } from '../../src/db/pool.ts'
import { createPrisma } from '../../src/db/prisma.ts'
import { test } from '../support/database.ts'

test('Prisma and plain SQL share one pool, which stays open when Prisma is done', async ({
  url,
}) => {
  const pool = createPool(url, { max: 1 })
  try {
    const prisma = createPrisma(pool)
    const pid = 'select pg_backend_pid() as pid'
    const [seen] = await prisma.$queryRawUnsafe<{ pid: number }[]>(pid)
    await prisma.$disconnect()
    expect((await pool.query(pid)).rows[0]).toEqual(seen)
  } finally {
    await pool.end()
  }
})

test('a Prisma transaction that fails is rolled back on that pool', async ({ pool }) => {
  await pool.query('create table tried (id int)')
  const prisma = createPrisma(pool)
  const failing = prisma.$transaction(async (transaction) => {
    await transaction.$executeRawUnsafe('insert into tried values (1)')
    throw new Error('on purpose')
  })
  await expect(failing).rejects.toThrow('on purpose')
  expect((await pool.query('select * from tried')).rows).toEqual([])
})

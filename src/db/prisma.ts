import { PrismaPg } from '@prisma/adapter-pg'
import type pg from 'pg'
import { PrismaClient } from '../generated/prisma/client.ts'
import { defaultSchema } from '../model/schema-name.ts'

/** Prisma over an existing pool. `$disconnect()` leaves the pool open; who made it ends it. */
export function createPrisma(pool: pg.Pool, schema = defaultSchema): PrismaClient {
  return new PrismaClient({ adapter: new PrismaPg(pool, { schema }) })
}

import { expect } from 'vitest'
import { test } from '../support/database.ts'
import { diffToPrismaSchema } from '../support/prisma-diff.ts'

test('schema.prisma says what the migrations make', async ({ url }) => {
  expect(await diffToPrismaSchema(url)).toBe('')
})

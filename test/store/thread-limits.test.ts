import { expect } from 'vitest'
import { providerNames } from '../../src/model/thread.ts'
import { profiles } from '../../src/provider/profiles.ts'
import { test } from '../support/database.ts'

test.for(providerNames)(
  '%s holds as many messages by SQL as by its profile',
  async (name, { pool }) => {
    const { rows } = await pool.query('select messages_limit($1) as most', [name])
    expect(rows[0].most).toBe(profiles[name].messagesPerThread)
  },
)

test('a thread is warned of from 80 % on, unless it is rotated before', async ({ pool }) => {
  const warning = async (...values: unknown[]) =>
    (await pool.query('select thread_warning($1, $2, $3) as warning', values)).rows[0].warning
  expect(await warning('assistants', 80_000, null)).toContain('80000 of the 100000 messages')
  expect(await warning('assistants', 80_000, 100_001)).toContain('80000')
  expect(await warning('assistants', 79_999, null)).toBeNull()
  expect(await warning('assistants', 99_999, 100_000)).toBeNull()
  expect(await warning('responses', 5_000_000, null)).toBeNull()
  expect(await warning(null, 5_000_000, null)).toBeNull()
})

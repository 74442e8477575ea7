import { expect, inject, test } from 'vitest'
import { connect } from '../../src/db/connect.ts'
import { createTemporaryDatabase, withTemporaryDatabase } from '../../src/db/database.ts'

const server = inject('serverUrl')
const nameOf = (url: string) => new URL(url).pathname.slice(1)

async function exists(name: string): Promise<boolean> {
  const client = await connect(server)
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [name])
    return rowCount === 1
  } finally {
    await client.end()
  }
}

test('two temporary databases on one server are two new ones', async () => {
  const [one, two] = await Promise.all([
    createTemporaryDatabase(server),
    createTemporaryDatabase(server),
  ])
  try {
    expect(nameOf(one.url)).toMatch(/^inturn_tmp_[0-9a-f]{12}$/)
    expect(nameOf(one.url)).not.toBe(nameOf(two.url))
    expect(await exists(nameOf(one.url))).toBe(true)
  } finally {
    await Promise.all([one.drop(), two.drop()])
  }
  expect(await exists(nameOf(one.url))).toBe(false)
  expect(await exists(nameOf(two.url))).toBe(false)
})

test('it is dropped while somebody is still connected to it', async () => {
  const database = await createTemporaryDatabase(server)
  const client = await connect(database.url)
  await database.drop()
  await expect(client.query('select 1')).rejects.toThrow()
  expect(await exists(nameOf(database.url))).toBe(false)
  await client.end()
})

test('it is dropped when the work in it fails, and the failure is passed on', async () => {
  let name = ''
  const work = withTemporaryDatabase(server, async (url) => {
    name = nameOf(url)
    expect(await exists(name)).toBe(true)
    throw new Error('the work failed')
  })
  await expect(work).rejects.toThrow('the work failed')
  expect(await exists(name)).toBe(false)
})

test('an unreachable server is named without the password', async () => {
  const url = 'postgres://somebody:hidden-word@127.0.0.1:1/app'
  const error = await createTemporaryDatabase(url).catch((reason) => reason)
  expect(error).toMatchObject({
    code: 'database_unreachable',
    message: expect.stringContaining('127.0.0.1:1, database "app", user "somebody"'),
  })
  expect(error.message).not.toContain('hidden-word')
})

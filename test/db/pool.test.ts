import pg from 'pg'
import { expect } from 'vitest'
import { createPool, withSearchPath } from '../../src/db/pool.ts'
import { test } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'

test('bigint is read as a number, and only in this pool', async ({ pool, url }) => {
  const sql = "select 42::bigint as one, array[1, null]::bigint[] as many, 'x' as text"
  const { rows } = await pool.query(sql)
  expect(rows[0]).toEqual({ one: 42, many: [1, null], text: 'x' })
  const foreign = new pg.Client(url)
  await foreign.connect()
  try {
    expect((await foreign.query(sql)).rows[0].one).toBe('42')
  } finally {
    await foreign.end()
  }
})

test('a bigint that a number cannot hold is an error, not another number', async ({ pool }) => {
  await expect(pool.query('select 9007199254740993::bigint')).rejects.toThrow('too large')
})

test('connections look in the schema that was asked for, whatever its letters', async ({ url }) => {
  const pool = createPool(url, { schema: 'Line_2', applicationName: 'inturn somewhere' })
  try {
    await pool.query('create schema "Line_2"')
    const { rows } = await pool.query(
      "select current_schema() as schema, current_setting('application_name') as name",
    )
    expect(rows[0]).toEqual({ schema: 'Line_2', name: 'inturn somewhere' })
  } finally {
    await pool.query('drop schema "Line_2"')
    await pool.end()
  }
})

test('options in the URL and a plus in its password stay what they are', () => {
  const url = 'postgres://me:a%2Bb+c@h/db?options=-c%20lock_timeout%3D5s'
  const changed = new URL(withSearchPath(url, 'inturn'))
  expect(changed.password).toBe('a%2Bb+c')
  expect(decodeURIComponent(changed.search)).toBe(
    '?options=-c lock_timeout=5s -c search_path="inturn"',
  )
  expect(withSearchPath(url, 'public')).toBe(url)
})

test('connections that the server ends, idle or in use, break nothing but the query at hand', async ({
  url,
  pool,
}) => {
  const lost: Error[] = []
  const mine = createPool(url, { applicationName: 'to be ended', onError: (e) => lost.push(e) })
  const endAll = () =>
    pool.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'to be ended'",
    )
  try {
    await mine.query('select 1')
    await endAll()
    await waitFor(() => lost.length === 1, { message: 'the loss of the idle connection is told' })

    const held = await mine.connect()
    await held.query('begin')
    await endAll()
    await expect(held.query('select 1')).rejects.toThrow()
    held.release(true)

    expect((await mine.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  } finally {
    await mine.end()
  }
})

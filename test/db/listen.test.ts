import pg from 'pg'
import { expect } from 'vitest'
import { listen } from '../../src/db/listen.ts'
import { test } from '../support/database.ts'
import { waitFor } from '../support/wait-for.ts'

const heard: string[] = []
const onNotify = (channel: string, payload: string) => heard.push(`${channel}: ${payload}`)

test('it hears its channels, and only those', async ({ url, pool }) => {
  let connected = 0
  const listener = listen({
    databaseUrl: url,
    channels: ['some_news', 'Other "news"'],
    onNotify,
    onConnected: () => connected++,
  })
  try {
    await waitFor(() => connected === 1, { message: 'connected' })
    await pool.query("select pg_notify('unheard', 'x'), pg_notify('some_news', 'a')")
    await pool.query(`notify "Other ""news"""`)
    await waitFor(() => heard.length >= 2, { message: 'two notifications' })
    expect(heard).toEqual(['some_news: a', 'Other "news": '])
  } finally {
    await listener.close()
  }
})

test('a lost connection is made again, told, and hears on', async ({ url, pool }) => {
  heard.length = 0
  const events: string[] = []
  const listener = listen({
    databaseUrl: url,
    channels: ['news'],
    onNotify,
    onConnected: () => events.push('connected'),
    onDisconnected: () => events.push('disconnected'),
    applicationName: 'listener to be ended',
  })
  try {
    await waitFor(() => events.length === 1, { message: 'connected' })
    await pool.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'listener to be ended'",
    )
    await waitFor(() => events.length === 3, { message: 'connected again' })
    expect(events).toEqual(['connected', 'disconnected', 'connected'])
    await pool.query("select pg_notify('news', 'again')")
    await waitFor(() => heard.length === 1, { message: 'the notification' })
    expect(heard).toEqual(['news: again'])
  } finally {
    await listener.close()
  }
})

test('without a server it keeps trying until it is closed', async () => {
  let failures = 0
  const listener = listen({
    databaseUrl: 'postgres://nobody@127.0.0.1:1/nothing',
    channels: ['news'],
    onNotify,
    onDisconnected: () => failures++,
  })
  await waitFor(() => failures >= 2, { message: 'two failed attempts' })
  await listener.close()
})

test('closing it ends its connection', async ({ url, pool }) => {
  let connected = false
  const listener = listen({
    databaseUrl: url,
    channels: [pg.escapeIdentifier('odd name')],
    onNotify,
    onConnected: () => {
      connected = true
    },
    applicationName: 'listener to be closed',
  })
  await waitFor(() => connected, { message: 'connected' })
  await listener.close()
  await waitFor(
    async () => {
      const { rowCount } = await pool.query(
        "select from pg_stat_activity where application_name = 'listener to be closed'",
      )
      return rowCount === 0
    },
    { message: 'the connection is gone' },
  )
})

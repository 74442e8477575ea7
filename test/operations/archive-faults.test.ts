import type pg from 'pg'
import { describe, expect } from 'vitest'
import type { EmulatorOptions } from '../../src/emulator/index.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'
import { adopted, archived, archivesOf, call, itemsPath, numbered, say } from './archive-reading.ts'
import { messagesPath, startLine, who } from './line.ts'

type Listener = (n: number) => Promise<void> | void

/** Tells of the n-th list of items behind `from`, before it is answered. */
function listsTold() {
  let told: Listener | undefined
  let n = 0
  const onRequest: EmulatorOptions['onRequest'] = async ({ method, path }) => {
    if (method === 'GET' && messagesPath.test(path)) await told?.(++n)
    return undefined
  }
  return {
    onRequest,
    set told(listener: Listener) {
      n = 0
      told = listener
    },
  }
}

const textsOf = async (pool: pg.Pool, archiveId: number) =>
  (await archived(pool, archiveId)).map(({ text }) => text)

const rowsOf = async (pool: pg.Pool, table: string) =>
  (await pool.query(`select count(*)::int as count from ${table}`)).rows[0].count

describe.each(['responses', 'assistants'] as const)('archive_thread on "%s"', (name) => {
  test('goes on behind the last page that is stored, when a page fails', async ({ pool }) => {
    const lists = listsTold()
    const line = await startLine(pool, name, { emulator: { onRequest: lists.onRequest } })
    const { id } = await adopted(line, name, 'a', numbered(450))
    let failed = false
    lists.told = (n) => {
      if (n !== 3 || failed) return
      failed = true
      // The client repeats a read twice.
      const { kind } = { kind: name === 'responses' ? 'items.list' : 'messages.list' } as const
      line.emulator.setFaults([{ name: 'server_error_before_commit', on: kind, times: 3 }])
    }
    const archive = await line.insert('a', 'archive_thread', {})
    const row = await line.end(archive)
    expect(row).toMatchObject({ status: 'completed', failures: 1, attempts: 2 })
    expect(await textsOf(pool, row.result.archive_id)).toEqual(numbered(450))
    expect(await archivesOf(pool, 'a')).toMatchObject([{ provider_thread_id: id, items: 450 }])
    // Had it begun anew, the first pages would be there twice.
    expect(await rowsOf(pool, 'archived_messages')).toBe(450)
  })

  test('begins anew when somebody else writes between the two looks, and leaves nothing of the first', async ({
    pool,
  }) => {
    const lists = listsTold()
    const line = await startLine(pool, name, { emulator: { onRequest: lists.onRequest } })
    const { id } = await adopted(line, name, 'a', numbered(150))
    lists.told = async (n) => {
      if (n === 4) await say(line, name, id, ['from elsewhere'])
    }
    const archive = await line.insert('a', 'archive_thread', {})
    const waited = await line.waiting(archive, 'provider_thread_changed')
    expect(waited.failures).toBe(0)
    const { result } = await line.end(archive)
    expect(await textsOf(pool, result.archive_id)).toEqual([...numbered(150), 'from elsewhere'])
    expect(await archivesOf(pool, 'a')).toHaveLength(1)
    const { rows } = await pool.query('select delete_unfinished_archives(100) as count')
    expect(rows).toEqual([{ count: 100 }])
    const rest = await pool.query('select delete_unfinished_archives(100) as count')
    expect(rest.rows).toEqual([{ count: 50 }])
    expect(await rowsOf(pool, 'archived_messages')).toBe(151)
    expect(await rowsOf(pool, 'unfinished_archives')).toBe(0)
    await expectHealthy(pool)
  })

  test('begins anew when what it copied was changed or deleted before the second look', async ({
    pool,
  }) => {
    const lists = listsTold()
    const line = await startLine(pool, name, { emulator: { onRequest: lists.onRequest } })
    const { id, ids } = await adopted(line, name, 'a', numbered(250))
    lists.told = async (n) => {
      // The last one of the first page, behind which the next begins.
      if (n === 2) await call(line, 'DELETE', `${itemsPath(name, id)}/${ids[99]}`)
    }
    const { result, attempts } = await line.do('a', 'archive_thread', {})
    expect(attempts).toBeGreaterThan(1)
    expect(await textsOf(pool, result.archive_id)).toEqual(numbered(250).toSpliced(99, 1))
  })

  test('gives up where two looks never agree, and nothing of it counts', async ({ pool }) => {
    const lists = listsTold()
    const line = await startLine(pool, name, {
      emulator: { onRequest: lists.onRequest },
      foreignRunMs: 300,
    })
    const { id } = await adopted(line, name, 'a', ['one'])
    let isWriting = false
    lists.told = async () => {
      if (isWriting) return
      isWriting = true
      await say(line, name, id, ['more'])
      isWriting = false
    }
    const archive = await line.insert('a', 'archive_thread', {})
    const { status, error } = await line.end(archive)
    expect([status, error.code]).toEqual(['failed', 'provider_thread_changes'])
    expect(error.message).toContain('stop whoever else writes to it')
    expect(await archivesOf(pool, 'a')).toEqual([])
    await pool.query('select delete_unfinished_archives(10000)')
    expect(await rowsOf(pool, 'archived_messages')).toBe(0)

    // Sent back into its line, it begins anew, and with a new patience.
    lists.told = () => {}
    await pool.query(`select retry_operation($1, 'head')`, [archive])
    const again = await waitFor(async () => {
      const row = await line.row(archive)
      return row.status === 'completed' && row
    })
    const texts = await textsOf(pool, again.result.archive_id)
    expect(texts).toEqual(['one', ...texts.slice(1).fill('more')])
    expect(texts).toHaveLength(again.result.items)
  })

  test('waits until lists show all that operations have added', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 3_000, callTimeoutMs: 5_000 })
    await line.do('a', 'create_thread', {})
    line.emulator.setFaults([{ name: 'read_lag', on: 'list', ms: 1_500, atLeastMs: 100 }], {
      seed: 7,
    })
    await line.insert('a', 'add_message', { message: 'one' })
    await line.insert('a', 'add_message_and_run', { message: 'reply with exactly: two', ...who })
    await line.insert('a', 'add_message_and_run', { message: 'reply with exactly: three', ...who })
    await line.insert('a', 'add_message', { message: 'four' })
    const { result } = await line.do('a', 'archive_thread', {})
    expect(await textsOf(pool, result.archive_id)).toEqual([
      'one',
      'reply with exactly: two',
      'two',
      'reply with exactly: three',
      'three',
      'four',
    ])
  })

  test('waits for a run of somebody else, so that its answer is in it; the line waits behind', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    await line.do('a', 'add_message_and_run', { message: 'reply with exactly: one', ...who })
    const { provider_thread_id } = await line.thread('a')
    line.emulator.foreignRun(provider_thread_id, {
      ms: 400,
      message: 'reply with exactly: foreign',
    })
    const archive = await line.insert('a', 'archive_thread', {})
    const behind = await line.insert('a', 'add_message', { message: 'behind' })
    await line.waiting(archive, name === 'responses' ? 'conversation_locked' : 'thread_busy')
    expect((await line.row(behind)).status).toBe('pending')
    expect(await archivesOf(pool, 'a')).toEqual([])
    const { result } = await line.end(archive)
    const texts = await textsOf(pool, result.archive_id)
    expect(texts.at(-1)).toBe('foreign')
    expect(texts).not.toContain('behind')
    expect((await line.end(behind)).status).toBe('completed')
  })

  test('is cancelled between two pages, and what it had copied is swept away', async ({ pool }) => {
    const lists = listsTold()
    const line = await startLine(pool, name, { emulator: { onRequest: lists.onRequest } })
    const { id } = await adopted(line, name, 'a', numbered(200))
    // There is always another page.
    lists.told = async () => void (await say(line, name, id, numbered(100)))
    const archive = await line.insert('a', 'archive_thread', {})
    await waitFor(async () => (await rowsOf(pool, 'archived_messages')) > 200)
    // While it is written, nobody sweeps it away.
    const swept = await pool.query('select delete_unfinished_archives(1000) as count')
    expect(swept.rows).toEqual([{ count: 0 }])
    const cancel = await line.insert('a', 'cancel_run', { reason: 'not now' })
    line.dispatcher.wakeBeside()
    expect(await line.end(archive)).toMatchObject({ status: 'cancelled', attempts: 1 })
    expect((await line.end(cancel)).result.outcome).toBe('cancelled')
    expect(await archivesOf(pool, 'a')).toEqual([])
    await pool.query('select delete_unfinished_archives(1000000)')
    expect(await rowsOf(pool, 'archived_messages')).toBe(0)
    expect(await rowsOf(pool, 'unfinished_archives')).toBe(0)
    await expectHealthy(pool)
  })
})

test('messages of one second may come in another order on every page: all are there, once', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  const { id } = await adopted(line, 'assistants', 'a', [])
  const second = () => Math.floor(Date.now() / 1_000)
  const texts: string[] = []
  for (let group = 0; group < 3; group++) {
    const before = second()
    await waitFor(() => second() > before)
    const said = numbered(70, texts.length + 1)
    await say(line, 'assistants', id, said)
    texts.push(...said)
  }
  line.emulator.setFaults([{ name: 'tied_order', probability: 0.5 }], { seed: 3 })
  const { result } = await line.do('a', 'archive_thread', {})
  const rows = await archived(pool, result.archive_id)
  expect(rows.map(({ text }) => text).toSorted()).toEqual(texts.toSorted())
  expect(rows.map(({ said_at }) => said_at)).toEqual(
    rows.map(({ said_at }) => said_at).toSorted((a, b) => a - b),
  )
})

test('a message stands before its answer, though both were said in one second', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  line.emulator.setFaults([{ name: 'tied_order' }])
  const turns = [1, 2, 3, 4, 5, 6]
  const run = (n: number) => ({
    message: `message ${n}`,
    assistant_id: 'asst_abcdefghijklmnopqrstuvwx',
    instructions: `Reply with exactly: answer ${n}`,
  })
  await line.do('a', 'add_message', { message: 'message 0' })
  for (const n of turns) await line.do('a', 'add_message_and_run', run(n))
  const { result } = await line.do('a', 'archive_thread', {})
  const rows = await archived(pool, result.archive_id)
  expect(rows.map(({ text }) => text)).toEqual([
    'message 0',
    ...turns.flatMap((n) => [`message ${n}`, `answer ${n}`]),
  ])
})

test('what somebody else said in such a second does not keep the others from their order', async ({
  pool,
}) => {
  const line = await startLine(pool, 'assistants')
  line.emulator.setFaults([{ name: 'tied_order' }])
  const turns = [1, 2, 3, 4, 5, 6]
  for (const n of turns) {
    await line.do('a', 'add_message_and_run', {
      message: `message ${n}`,
      assistant_id: 'asst_abcdefghijklmnopqrstuvwx',
      instructions: `Reply with exactly: answer ${n}`,
    })
    const { provider_thread_id } = await line.thread('a')
    await say(line, 'assistants', provider_thread_id, ['An outsider speaks.'])
  }
  const { result } = await line.do('a', 'archive_thread', {})
  const texts = (await archived(pool, result.archive_id)).map(({ text }) => text)
  expect(texts).toHaveLength(18)
  expect(texts.filter((text) => text !== 'An outsider speaks.')).toEqual(
    turns.flatMap((n) => [`message ${n}`, `answer ${n}`]),
  )
})

test('what was changed between the two looks is copied anew', async ({ pool }) => {
  const lists = listsTold()
  const line = await startLine(pool, 'assistants', { emulator: { onRequest: lists.onRequest } })
  const { id, ids } = await adopted(line, 'assistants', 'a', numbered(3))
  lists.told = async (n) => {
    const path = `${itemsPath('assistants', id)}/${ids[1]}`
    if (n === 2) await call(line, 'POST', path, { metadata: { edited: 'yes' } })
  }
  const { result, attempts } = await line.do('a', 'archive_thread', {})
  expect(attempts).toBe(2)
  const rows = await archived(pool, result.archive_id)
  expect(rows.map(({ metadata }) => metadata)).toEqual([{}, { edited: 'yes' }, {}])
})

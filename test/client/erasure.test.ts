import type pg from 'pg'
import { describe, expect, onTestFinished } from 'vitest'
import { Inturn } from '../../src/index.ts'
import { inturn as cli } from '../cli/cli.ts'
import { startLine, who } from '../operations/line.ts'
import { expectHealthy } from '../support/healthy.ts'
import { test } from '../support/own-database.ts'
import { waitFor } from '../support/wait-for.ts'

const secret = 'sister-in-Antwerp'

/** The tables in which something of the person is written. */
async function tablesWith(pool: pg.Pool, text: string): Promise<string[]> {
  const { rows } = await pool.query(
    `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
      where table_schema = 'public' and table_type = 'BASE TABLE'`,
  )
  const found: string[] = []
  for (const { name } of rows) {
    const { rowCount } = await pool.query(
      `select from ${name} as t where strpos(t::text, $1) > 0 limit 1`,
      [text],
    )
    if (rowCount) found.push(name)
  }
  return found.sort()
}

const client = (pool: pg.Pool): Inturn => {
  const inturn = new Inturn({ pool })
  onTestFinished(() => inturn.close())
  return inturn
}

const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.unreachable('it was not refused'),
    ({ code, hint }) => ({ code, hint }),
  )

describe('eraseUser', () => {
  test('leaves nothing of a person, on either provider, while others go on', async ({ pool }) => {
    const line = await startLine(pool, 'responses', {
      streams: true,
      settleMs: 200,
    })
    const inturn = client(pool)
    const owned = ['responses:own', 'assistants:own', 'responses:quiet']
    for (const thread of [...owned, 'responses:group', 'assistants:group'])
      await pool.query(
        'insert into threads (id, provider, user_id, labels) values ($1, $2, $3, $4)',
        [
          thread,
          thread.split(':')[0],
          thread.endsWith('group') ? null : '42',
          thread.endsWith('group') ? {} : { told: secret },
        ],
      )
    const add = async (
      thread: string,
      operation: string,
      data: object,
      userId: string | null = '42',
    ) => {
      const { rows } = await pool.query(
        'insert into thread_operations (thread_id, operation, data, user_id) values ($1, $2, $3, $4) returning id',
        [thread, operation, data, userId],
      )
      return rows[0].id as number
    }
    const say = { message: `reply with exactly: ${secret}`, ...who }
    for (const thread of [...owned, 'responses:group', 'assistants:group'])
      await line.end(await add(thread, 'add_message_and_run', say))
    for (const thread of owned) {
      await line.end(await add(thread, 'archive_thread', { reason: secret }, null))
      await line.end(await add(thread, 'update_thread', { metadata: { told: secret } }, null))
    }
    expect(await tablesWith(pool, secret)).toEqual([
      'public.archived_messages',
      'public.operation_stream',
      'public.thread_archives',
      'public.thread_operations',
      'public.threads',
    ])
    const conversations = await Promise.all(
      owned.map(async (thread) => (await line.thread(thread)).provider_thread_id as string),
    )

    // A run, a message behind it and a scheduled one on each; and others who write all the time.
    const late = ['responses:own', 'assistants:own'].flatMap((thread) => [
      add(thread, 'add_message_and_run', say),
      add(thread, 'add_message', { message: secret }),
    ])
    const ids = await Promise.all(late)
    const { rows: scheduled } = await pool.query(
      `insert into thread_operations (thread_id, operation, data, scheduled_at) values ($1, 'add_message', $2, now() + interval '1 day') returning id`,
      [owned[0], { message: secret }],
    )
    let isOver = false
    const traffic = (async () => {
      const done: number[] = []
      while (!isOver)
        done.push(
          await line
            .end(await add('responses:group', 'add_message', { message: 'Others.' }, '7'))
            .then(({ id }) => id),
        )
      return done
    })()

    const erasure = await inturn.eraseUser('42')
    expect((await inturn.eraseUser('42')).id).toBe(erasure.id)
    const report = await erasure.report({ timeoutMs: 30_000 })
    isOver = true
    expect((await traffic).length).toBeGreaterThan(0)

    expect(await tablesWith(pool, secret)).toEqual([])
    for (const id of conversations) expect(() => line.emulator.history(id)).toThrow('no thread')
    expect(line.emulator.keptItems()).toEqual([])
    const { rows: emptied } = await pool.query(
      `select count(*)::int from thread_operations where progress ? 'erased'`,
    )
    expect(report).toMatchObject({
      user_id: '42',
      operations: emptied[0].count,
      not_proved: [
        { what: 'messages in thread assistants:group' },
        { what: 'messages in thread responses:group' },
      ],
    })
    expect(
      report.threads.map(({ thread_id, deleted }) => [thread_id, deleted[0]?.provider_thread_id]),
    ).toEqual(owned.map((thread, i) => [thread, conversations[i]]).sort())
    for (const id of ids)
      expect(await line.row(id)).toMatchObject({ data: {}, progress: { erased: true } })
    const { rows } = await pool.query('select * from thread_operations where user_id = $1', ['7'])
    expect(rows.every(({ data }) => data.message === 'Others.')).toBe(true)
    const { rows: kept } = await pool.query(
      `select count(*)::int as events from operation_events where thread_id = any ($1)`,
      [owned],
    )
    expect(kept[0].events).toBeGreaterThan(10)
    await expectHealthy(pool)
    const error = await refusal(
      inturn.operation(scheduled[0].id).then((handle) => handle.retry({ at: 'tail' })),
    )
    expect(error.code).toBe('erased_operation_is_not_retried')
  })

  test('says which deletion failed, and asked for again it proves what is left', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'assistants', { maxAttempts: 1 })
    const inturn = client(pool)
    await pool.query(
      `insert into threads (id, provider, user_id) values ('stuck', 'assistants', '42')`,
    )
    await line.do('stuck', 'add_message', { message: secret })
    line.emulator.setFaults([{ name: 'server_error_before_commit', on: 'threads.delete' }])
    const first = await (await inturn.eraseUser('42')).report({ timeoutMs: 20_000 })
    expect(first.not_proved).toEqual([
      { what: 'thread stuck', why: 'its delete_thread is failed (provider_error)' },
    ])
    expect(first.threads).toEqual([{ thread_id: 'stuck', deleted: [] }])
    line.emulator.setFaults([])
    const second = await (await inturn.eraseUser('42')).report({ timeoutMs: 20_000 })
    expect(second.not_proved).toEqual([])
    expect(second.threads[0]?.deleted).toHaveLength(1)
    expect(await tablesWith(pool, secret)).toEqual([])
  })

  test('names provider threads that this fleet has no settings for', async ({ pool }) => {
    const line = await startLine(pool, 'responses', { providers: ['responses'] })
    const inturn = client(pool)
    await pool.query(
      `insert into threads (id, provider, user_id) values ('moved', 'responses', '42')`,
    )
    await line.do('moved', 'add_message', { message: 'Hi' })
    await pool.query(
      `update thread_generations set provider = 'assistants', provider_thread_id = 'thread_old' where thread_id = 'moved'`,
    )
    const { not_proved, not_covered } = await (await inturn.eraseUser('42')).report({
      timeoutMs: 20_000,
    })
    expect(not_proved).toEqual([
      {
        what: 'provider thread thread_old of thread moved',
        why: 'no dispatcher that deleted the conversation has settings for the provider assistants',
      },
    ])
    expect(not_covered[0]).toContain('backups')
  })

  test('waits for operations on threads of others, and for transactions that were open', async ({
    pool,
    connected,
  }) => {
    const line = await startLine(pool, 'responses')
    const inturn = client(pool)
    const held = await line.insert('others', 'hold', {})
    await waitFor(async () => ((await line.row(held)) as { held_until?: Date }).held_until)
    const insert = `insert into thread_operations (thread_id, operation, data, user_id) values ('others', 'add_message', $1, '42')`
    await pool.query(insert, [{ message: secret }])
    const open = await connected()
    await open.query('begin')
    await open.query(insert, [{ message: secret }])
    const erasure = await inturn.eraseUser('42')
    const late = await refusal(erasure.report({ timeoutMs: 600 }))
    expect(late.code).toBe('erasure_timeout')
    await open.query('commit')
    await waitFor(async () => (await erasure.state()).unfinished === 2)
    await pool.query('select release_hold($1)', [held])
    const report = await erasure.report({ timeoutMs: 20_000 })
    expect(report.operations).toBe(2)
    expect(await tablesWith(pool, secret)).toEqual([])
  })

  test('of nobody is over at once, and what is no id is refused', async ({ pool }) => {
    await startLine(pool, 'responses')
    const inturn = client(pool)
    const report = await (await inturn.eraseUser('nobody')).report({ timeoutMs: 20_000 })
    expect(report).toMatchObject({ threads: [], operations: 0, not_proved: [] })
    expect(await refusal(inturn.eraseUser(''))).toMatchObject({
      code: 'user_id_has_1_to_255_characters',
      hint: expect.stringContaining('threads.user_id'),
    })
  })
})

describe('inturn erase', () => {
  test('asks for --yes, waits, and prints what was proved', async ({ url, pool }) => {
    const line = await startLine(pool, 'responses')
    await pool.query(
      `insert into threads (id, provider, user_id) values ('mine', 'responses', '42')`,
    )
    await line.do('mine', 'add_message', { message: secret })
    const asked = await cli(['erase', '42'], { databaseUrl: url })
    expect(asked).toMatchObject({ code: 2, stdout: '' })
    expect(asked.stderr).toContain('this deletes 1 thread of user 42 for good')
    expect(asked.stderr).toContain('--yes')
    expect(await line.said('mine')).toEqual([`user: ${secret}`])
    const done = await cli(['erase', '42', '--yes'], { databaseUrl: url })
    expect(done.code).toBe(0)
    expect(done.stdout).toMatch(
      /^user 42: 1 threads, .*\nproved to be gone:\n {2}mine: conv_\w+ and 1 items, gone at .*\nnot within reach:/,
    )
    const again = await cli(['erase', '42', '--yes', '--json'], { databaseUrl: url })
    expect(JSON.parse(again.stdout)).toMatchObject({
      not_proved: [],
      threads: [{ thread_id: 'mine' }],
    })
  })

  test('exits with 1 where something was not proved', async ({ url, pool }) => {
    const line = await startLine(pool, 'responses')
    const { rows } = await pool.query(
      `insert into thread_operations (thread_id, operation, data, user_id) values ('others', 'add_message', '{"message": "Hi"}', '42') returning id`,
    )
    await line.end(rows[0].id)
    const done = await cli(['erase', '42', '--yes'], { databaseUrl: url })
    expect(done.code).toBe(1)
    expect(done.stdout).toContain(
      'not proved:\n  messages in thread others: the thread is not theirs',
    )
  })
})

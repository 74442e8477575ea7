import { describe, expect } from 'vitest'
import { test } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { adopted, archived, archivesOf, call, itemsPath, numbered } from './archive-reading.ts'
import { startLine, who } from './line.ts'

describe.each(['responses', 'assistants'] as const)('archive_thread on "%s"', (name) => {
  test('copies all that was said, in order, with what its runs came to', async ({ pool }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:all`
    await pool.query('insert into threads (id, user_id) values ($1, $2)', [thread, 'ann'])
    await line.insert(thread, 'create_thread', { metadata: { team: 'red' } })
    await line.insert(thread, 'add_message', { message: 'first' })
    const run = await line.insert(thread, 'add_message_and_run', {
      message: 'reply with exactly: the answer',
      ...who,
    })
    const id = await line.insert(thread, 'archive_thread', { reason: 'before the move' })
    const after = await line.insert(thread, 'add_message', { message: 'after' })

    const { status, result, error } = await line.end(id)
    expect({ status, error }).toEqual({ status: 'completed', error: null })
    const { provider_thread_id } = await line.thread(thread)
    expect(result).toEqual({ provider_thread_id, archive_id: expect.any(Number), items: 3 })
    const rows = await archived(pool, result.archive_id)
    expect(rows.map(({ position, role, text }) => [position, role, text])).toEqual([
      [1, 'user', 'first'],
      [2, 'user', 'reply with exactly: the answer'],
      [3, 'assistant', 'the answer'],
    ])
    const ran = await line.row(run)
    expect(await archivesOf(pool, thread)).toEqual([
      {
        id: result.archive_id,
        thread_id: thread,
        generation: 1,
        operation_id: id,
        provider: name,
        provider_thread_id,
        user_id: 'ann',
        reason: 'before the move',
        messages: 3,
        items: 3,
        last_item_id: rows[2].item_id,
        runs: 1,
        input_tokens: ran.result.usage.input_tokens,
        output_tokens: ran.result.usage.output_tokens,
        metadata: { team: 'red' },
        verified_at: expect.any(Date),
        archived_at: expect.any(Date),
      },
    ])
    const { rows: runs } = await pool.query('select * from archived_runs where archive_id = $1', [
      result.archive_id,
    ])
    expect(runs).toMatchObject([
      { turn: 3, operation_id: run, run_id: ran.result.run.id, status: 'completed', user_id: null },
    ])
    expect(runs[0].usage).toEqual(ran.result.usage)
    const { rows: generations } = await pool.query(
      'select archive_id from thread_generations where thread_id = $1',
      [thread],
    )
    expect(generations).toEqual([{ archive_id: result.archive_id }])
    expect((await line.end(after)).status).toBe('completed')
    await expectHealthy(pool)
  })

  test('keeps content parts, files and all that the provider tells of an item', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:parts`
    const text = { type: name === 'responses' ? 'input_text' : 'text', text: 'Look:\u0000' }
    const image =
      name === 'responses'
        ? { type: 'input_image', file_id: 'file_1', detail: 'auto' }
        : { type: 'image_file', image_file: { file_id: 'file_1', detail: 'auto' } }
    const message = {
      content: [text, image],
      ...(name === 'assistants' && {
        attachments: [{ file_id: 'file_2', tools: [{ type: 'file_search' }] }],
      }),
    }
    const { id, ids } = await adopted(line, name, thread, ['one'])
    const path = itemsPath(name, id)
    const body =
      name === 'responses'
        ? { items: [{ type: 'message', role: 'user', ...message }] }
        : { role: 'user', ...message }
    await call(line, 'POST', path, body)
    if (name === 'responses')
      await call(line, 'POST', path, {
        items: [
          { type: 'function_call', call_id: 'call_1', name: 'rain', arguments: '{}' },
          { type: 'function_call_output', call_id: 'call_1', output: 'no' },
        ],
      })
    const run = await line.do(thread, 'create_run', {
      ...who,
      instructions: 'Reply with exactly: yes',
    })
    const { result } = await line.do(thread, 'archive_thread', {})
    const rows = await archived(pool, result.archive_id)
    const { data } = await call(line, 'GET', `${path}?order=asc&limit=100`)
    expect(rows.map(({ item_id }) => item_id)).toEqual(data.map((item: { id: string }) => item.id))
    expect(rows.map(({ item }) => item)).toEqual(
      JSON.parse(JSON.stringify(data).replaceAll('\\u0000', '\ufffd')),
    )
    expect(rows[0]).toMatchObject({ item_id: ids[0], type: 'message', role: 'user', text: 'one' })
    expect(rows[1].text).toBe('Look:\ufffd')
    expect(rows[1].content).toHaveLength(2)
    if (name === 'responses') {
      expect(rows[1].attachments).toEqual(['file_1'])
      expect(
        rows.slice(2, 4).map(({ type, role, text, content }) => [type, role, text, content]),
      ).toEqual([
        ['function_call', null, null, null],
        ['function_call_output', null, null, null],
      ])
      expect((await archivesOf(pool, thread))[0]).toMatchObject({ messages: 3, items: 5 })
    } else {
      expect(rows[1].attachments).toEqual(['file_2', 'file_1'])
      expect(rows[2]).toMatchObject({
        role: 'assistant',
        run_id: run.result.run.id,
        said_at: expect.any(Date),
      })
    }
    expect(rows.at(-1)).toMatchObject({ role: 'assistant', text: run.result.text })
  })

  test('copies a thread of 2,500 messages, all of them and in order', async ({ pool }) => {
    const line = await startLine(pool, name, { callTimeoutMs: 10_000 })
    const thread = `${name}:long`
    const texts = numbered(2_500)
    const { ids } = await adopted(line, name, thread, texts)
    const { result, error } = await line.do(thread, 'archive_thread', {})
    expect(error).toBeNull()
    expect(result.items).toBe(2_500)
    const rows = await archived(pool, result.archive_id)
    expect(rows.map(({ text }) => text)).toEqual(texts)
    expect(rows.map(({ item_id }) => item_id)).toEqual(ids)
    expect(rows.map(({ position }) => position)).toEqual(texts.map((_, i) => i + 1))
    expect(await archivesOf(pool, thread)).toMatchObject([
      { messages: 2_500, items: 2_500, last_item_id: ids.at(-1), runs: 0, input_tokens: null },
    ])
  })

  test('makes no archive of a thread that nobody has begun, and an empty one of one that is empty', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const nothing = await line.do(`${name}:nothing`, 'archive_thread', {})
    expect(nothing).toMatchObject({ status: 'completed', result: { items: 0 } })
    expect(nothing.result).toEqual({ items: 0 })
    expect(await line.thread(`${name}:nothing`)).toMatchObject({ provider_thread_id: null })

    const { id } = await adopted(line, name, `${name}:empty`, [])
    const empty = await line.do(`${name}:empty`, 'archive_thread', {})
    expect(empty.result).toEqual({
      provider_thread_id: id,
      archive_id: expect.any(Number),
      items: 0,
    })
    expect(await archivesOf(pool, `${name}:empty`)).toMatchObject([
      { items: 0, messages: 0, runs: 0, last_item_id: null },
    ])
  })

  test('fails where the provider knows no such thread any more', async ({ pool }) => {
    const line = await startLine(pool, name, { settleMs: 50 })
    const thread = `${name}:gone`
    const { id } = await adopted(line, name, thread, ['one'])
    await call(line, 'DELETE', name === 'responses' ? `conversations/${id}` : `threads/${id}`)
    const { status, error } = await line.do(thread, 'archive_thread', {})
    expect([status, error.code, error.provider_status]).toEqual([
      'failed',
      'provider_thread_not_found',
      404,
    ])
    expect(await archivesOf(pool, thread)).toEqual([])
  })

  test('a second archive stands beside the first, and the generation names the newer', async ({
    pool,
  }) => {
    const line = await startLine(pool, name)
    const thread = `${name}:twice`
    await line.do(thread, 'add_message', { message: 'one' })
    const first = await line.do(thread, 'archive_thread', {})
    await line.do(thread, 'add_message', { message: 'two' })
    const second = await line.do(thread, 'archive_thread', {})
    expect(
      (await archivesOf(pool, thread)).map(({ id, items, reason }) => [id, items, reason]),
    ).toEqual([
      [first.result.archive_id, 1, 'requested'],
      [second.result.archive_id, 2, 'requested'],
    ])
    const { rows } = await pool.query(
      'select archive_id from thread_generations where thread_id = $1',
      [thread],
    )
    expect(rows).toEqual([{ archive_id: second.result.archive_id }])
    expect(
      (await pool.query('select from unfinished_archives where thread_id = $1', [thread])).rowCount,
    ).toBe(0)
  })
})

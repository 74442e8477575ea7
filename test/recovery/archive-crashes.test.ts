import { describe, expect } from 'vitest'
import type { Point } from '../../src/model/point.ts'
import { providerNames } from '../../src/model/thread.ts'
import { test as base } from '../support/database.ts'
import { expectHealthy } from '../support/healthy.ts'
import { CrashFleet } from './crash-fleet.ts'

const test = base.extend('fleet', { scope: 'file' }, async ({ url, pool }, { onCleanup }) => {
  const fleet = await CrashFleet.start({ url, pool, callTimeoutMs: 5_000 })
  onCleanup(() => fleet.close())
  return fleet
})

/** Begun, each of three pages written down, complete, settled: the journal tells of all but the first and the last. */
const cells: Array<{ point: Point; occurrence: number }> = [
  { point: 'claimed', occurrence: 1 },
  ...[1, 2, 3, 4, 5].map((occurrence) => ({ point: 'after_note' as const, occurrence })),
  { point: 'before_settle', occurrence: 1 },
  { point: 'after_settle', occurrence: 1 },
]

describe.each(providerNames)('on "%s"', (name) => {
  test('an archive is complete or not there, and there is one, wherever its dispatcher dies', {
    timeout: 120_000,
  }, async ({ fleet, pool }) => {
    const texts = Array.from({ length: 250 }, (_, i) => `message ${i + 1}`)
    const threads = new Map<string, (typeof cells)[number]>()
    for (const cell of cells) {
      const thread = `${name}: ${cell.point} ${cell.occurrence}`
      threads.set(thread, cell)
      const id = await conversation(fleet.emulators[name].url, name, texts)
      await insert(thread, 'create_thread', { provider: name, provider_thread_id: id })
    }
    const first = await fleet.survivor()
    await fleet.drained().finally(() => first.stop())

    for (const [thread, cell] of threads) {
      const operationId = await insert(thread, 'archive_thread', {})
      await insert(thread, 'add_message', { message: 'behind' })
      expect(await fleet.crash(name, { operationId, ...cell }), thread).toBe(true)
      const { rows } = await pool.query('select items from thread_archives where thread_id = $1', [
        thread,
      ])
      expect(rows.every(({ items }) => items === 250)).toBe(true)
    }
    const survivor = await fleet.survivor()
    await fleet.drained().finally(() => survivor.stop())

    await pool.query('select delete_unfinished_archives(100000)')
    const { rows } = await pool.query(
      `select a.thread_id, array_agg(a.id) as archives, o.status, o.result,
              (select array_agg(m.text order by m.position) from archived_messages m where m.archive_id = min(a.id)) as texts
         from thread_archives a join thread_operations o on o.id = a.operation_id
        where a.provider = $1 group by a.thread_id, o.id`,
      [name],
    )
    expect(rows.map(({ thread_id }) => thread_id).toSorted()).toEqual(
      [...threads.keys()].toSorted(),
    )
    for (const { thread_id, archives, status, result, texts: stored } of rows) {
      expect(archives, thread_id).toEqual([result.archive_id])
      expect([status, result.items], thread_id).toEqual(['completed', 250])
      expect(stored, thread_id).toEqual(texts)
    }
    const left = await pool.query('select count(*)::int as count from unfinished_archives')
    expect(left.rows).toEqual([{ count: 0 }])
    await expectHealthy(pool)

    async function insert(thread: string, operation: string, data: object): Promise<number> {
      const { rows } = await pool.query(
        'insert into thread_operations (thread_id, operation, data) values ($1, $2, $3) returning id',
        [thread, operation, data],
      )
      return rows[0].id
    }
  })
})

/** A provider thread that holds these messages. */
async function conversation(
  url: string,
  name: (typeof providerNames)[number],
  texts: readonly string[],
): Promise<string> {
  const post = async (path: string, body: object): Promise<{ id: string }> => {
    const headers = {
      authorization: 'Bearer any',
      'content-type': 'application/json',
      'openai-beta': 'assistants=v2',
    }
    const response = await fetch(`${url}/${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(await response.text())
    return (await response.json()) as { id: string }
  }
  if (name === 'assistants')
    return (
      await post('threads', { messages: texts.map((content) => ({ role: 'user', content })) })
    ).id
  const { id } = await post('conversations', {})
  for (let i = 0; i < texts.length; i += 20)
    await post(`conversations/${id}/items`, {
      items: texts.slice(i, i + 20).map((content) => ({ type: 'message', role: 'user', content })),
    })
  return id
}

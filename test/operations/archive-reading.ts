import type pg from 'pg'
import type { ProviderName } from '../../src/model/thread.ts'
import type { Line } from './line.ts'

/** Rows of `archived_messages`, in order. */
export const archived = async (pool: pg.Pool, archiveId: number) =>
  (
    await pool.query(
      `select position, item_id, type, role, text, content, attachments, run_id, metadata, said_at, item
         from archived_messages where archive_id = $1 order by position`,
      [archiveId],
    )
  ).rows

export const archivesOf = async (pool: pg.Pool, thread: string) =>
  (await pool.query('select * from thread_archives where thread_id = $1 order by id', [thread]))
    .rows

/** Calls the emulator as an outsider would. */
export async function call(line: Line, method: string, path: string, body?: object): Promise<any> {
  const response = await fetch(`${line.emulator.url}/${path}`, {
    method,
    headers: {
      authorization: 'Bearer any',
      'content-type': 'application/json',
      'openai-beta': 'assistants=v2',
    },
    body: body && JSON.stringify(body),
  })
  if (!response.ok) throw new Error(await response.text())
  return response.json()
}

/** Where the provider's items are added, listed and deleted. */
export const itemsPath = (name: ProviderName, id: string) =>
  name === 'responses' ? `conversations/${id}/items` : `threads/${id}/messages`

/** Adds these messages behind inturn's back, in order; gives their ids. */
export async function say(
  line: Line,
  name: ProviderName,
  id: string,
  texts: readonly string[],
): Promise<string[]> {
  const path = itemsPath(name, id)
  const ids: string[] = []
  if (name === 'assistants') {
    for (const content of texts)
      ids.push((await call(line, 'POST', path, { role: 'user', content })).id)
    return ids
  }
  for (let i = 0; i < texts.length; i += 20) {
    const items = texts
      .slice(i, i + 20)
      .map((content) => ({ type: 'message', role: 'user', content }))
    const { data } = await call(line, 'POST', path, { items })
    ids.push(...data.map((item: { id: string }) => item.id))
  }
  return ids
}

/** A provider thread that holds these messages, as the thread `thread`. */
export async function adopted(
  line: Line,
  name: ProviderName,
  thread: string,
  texts: readonly string[],
): Promise<{ id: string; ids: string[] }> {
  const { id } = await call(line, 'POST', name === 'responses' ? 'conversations' : 'threads', {})
  const ids = await say(line, name, id, texts)
  const row = await line.do(thread, 'create_thread', { provider: name, provider_thread_id: id })
  if (row.status !== 'completed') throw new Error(JSON.stringify(row.error))
  return { id, ids }
}

export const numbered = (count: number, from = 1) =>
  Array.from({ length: count }, (_, i) => `message ${i + from}`)

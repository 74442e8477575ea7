import type { OpenAI } from 'openai'
import type { Message, MessageCreateParams } from 'openai/resources/beta/threads/messages'
import type { ItemPage, StoredItem } from '../model/stored-item.ts'
import { once, repeatable } from './client.ts'
import { copyable } from './copyable.ts'
import type { CallOptions } from './provider.ts'
import { tagged } from './run-parameters.ts'

type Part = Record<string, unknown>

/** One page of a thread, 100 messages, oldest first; those of one second in any order. */
export async function listMessages(
  { beta: { threads } }: OpenAI,
  thread: string,
  after: string | null,
  options: CallOptions,
): Promise<ItemPage> {
  const query = { order: 'asc', limit: 100, ...(after !== null && { after }) } as const
  const page = await threads.messages.list(thread, query, repeatable(options))
  return { items: page.data.map(toStored), isMore: page.has_more }
}

/** Copies of messages, one a call. Of metadata, 16 pairs are the most, and one is ours. */
export async function copyMessages(
  { beta: { threads } }: OpenAI,
  thread: string,
  items: readonly StoredItem[],
  tag: string,
  options: CallOptions,
): Promise<string[]> {
  const ids: string[] = []
  for (const item of items) {
    const { role, content, ...rest } = copyable(item, 'assistants')?.body as Part
    const [first, ...more] = content as Part[]
    const isText = more.length === 0 && first?.type === 'text'
    const { inturn_operation, ...own } = item.metadata ?? {}
    const metadata = tagged(Object.fromEntries(Object.entries(own).slice(0, 15)), tag)
    const body = { ...rest, role, content: isText ? first.text : content, metadata }
    const { id } = await threads.messages.create(
      thread,
      body as unknown as MessageCreateParams,
      once(options),
    )
    ids.push(id)
  }
  return ids
}

function toStored(message: Message): StoredItem {
  const parts = message.content as unknown as Part[]
  const texts = parts.flatMap((part) => {
    const text = (part.text as { value?: string } | undefined)?.value ?? part.refusal
    return typeof text === 'string' ? [text] : []
  })
  const files = parts.flatMap((part) => {
    const { file_id } = (part.image_file ?? {}) as { file_id?: string }
    return file_id === undefined ? [] : [file_id]
  })
  const attached = (message.attachments ?? []).flatMap(({ file_id }) => file_id ?? [])
  return {
    id: message.id,
    type: 'message',
    role: message.role,
    text: texts.length > 0 ? texts.join('\n') : null,
    content: parts,
    attachments: [...attached, ...files],
    run_id: message.run_id,
    metadata: (message.metadata ?? null) as Record<string, string> | null,
    said_at: new Date(message.created_at * 1000).toISOString(),
    item: message as unknown as Part,
  }
}

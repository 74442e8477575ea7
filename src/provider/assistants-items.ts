import type { OpenAI } from 'openai'
import type { Message } from 'openai/resources/beta/threads/messages'
import type { ItemPage, StoredItem } from '../model/stored-item.ts'
import { repeatable } from './client.ts'
import type { CallOptions } from './provider.ts'

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

import type { StoredItem } from '../model/stored-item.ts'
import type { ProviderName } from '../model/thread.ts'

type Part = Record<string, unknown>

/** What is taken along of an item, and how the target is told it. */
export type CopiedItem = {
  kind: 'message' | 'call' | 'output'
  role: string | null
  /** As StoredItem.text of what the target then holds. */
  text: string | null
  /** Of a call and its output, which are taken along as a pair. */
  callId: string | null
  /** False: parts of the message stay behind. */
  isWhole: boolean
  body: Part
}

/**
 * What a conversation of `target` can take along of an item; null: nothing. Messages go with their text, in
 * the roles that the target has (Assistants: user and assistant). Pictures and files go within one kind of
 * provider; to the other kind only pictures that have an address. Calls of functions and of custom tools
 * go with their outputs, from one Conversation to another. All else stays behind: reasoning, which belongs
 * to the run that thought it, and what the provider's own tools did. Annotations of a text do not go, nor
 * does the id.
 */
export function copyable(item: StoredItem, target: ProviderName): CopiedItem | null {
  if (item.type === 'message') return message(item, target)
  const { type, item: whole } = item
  const call_id = whole.call_id as string | undefined
  const fields = fieldsOf[type]
  if (target !== 'responses' || fields === undefined || call_id === undefined) return null
  const body = Object.fromEntries(['call_id', ...fields].map((name) => [name, whole[name]]))
  return {
    kind: type.endsWith('_output') ? 'output' : 'call',
    role: null,
    text: null,
    callId: call_id,
    isWhole: true,
    body: { type, ...body },
  }
}

const fieldsOf: Record<string, readonly string[]> = {
  function_call: ['name', 'arguments'],
  function_call_output: ['output'],
  custom_tool_call: ['name', 'input'],
  custom_tool_call_output: ['output'],
}

const roles: Record<ProviderName, readonly string[]> = {
  assistants: ['user', 'assistant'],
  responses: ['user', 'assistant', 'system', 'developer'],
}

function message(item: StoredItem, target: ProviderName): CopiedItem | null {
  const { role, content, item: whole } = item
  if (role === null || content === null || !roles[target].includes(role)) return null
  const read = content.map(readPart).filter((part) => part.text !== '')
  const write = target === 'responses' ? toResponses(role) : toAssistants
  const parts = read.flatMap((part) => write(part) ?? [])
  if (parts.length === 0) return null
  const attachments = Array.isArray(whole.attachments) ? (whole.attachments as Part[]) : []
  const isAttached = target === 'assistants' && attachments.length > 0
  const texts = read.flatMap(({ text }) => text ?? [])
  return {
    kind: 'message',
    role,
    text: texts.length > 0 ? texts.join('\n') : null,
    callId: null,
    isWhole: parts.length === read.length && (isAttached || attachments.length === 0),
    body: { role, content: parts, ...(isAttached && { attachments }) },
  }
}

/** A part by what it holds, whichever provider has it. */
type ReadPart = {
  text?: string
  isRefusal?: true
  /** A picture that has an address. */
  url?: string
  detail?: unknown
  /** As it is, for the provider that knows it. */
  own?: { provider: ProviderName; part: Part }
}

function readPart(part: Part): ReadPart {
  const { type, text, refusal, detail } = part
  if (typeof text === 'string') return { text }
  if (type === 'text') return { text: (text as { value?: string } | undefined)?.value ?? '' }
  if (typeof refusal === 'string') return { text: refusal, isRefusal: true }
  if (type === 'image_url') {
    const image = part.image_url as { url?: string; detail?: unknown } | undefined
    return { url: image?.url, detail: image?.detail }
  }
  if (type === 'image_file') return { own: { provider: 'assistants', part } }
  if (type === 'input_image' && typeof part.image_url === 'string' && isAddress(part.image_url))
    return { url: part.image_url, detail }
  if (type === 'input_image' || type === 'input_file')
    return { own: { provider: 'responses', part } }
  return {}
}

const isAddress = (url: string) => /^https?:/.test(url)

function toAssistants({ text, url, detail, own }: ReadPart): Part | null {
  if (text !== undefined) return { type: 'text', text }
  if (url !== undefined)
    return { type: 'image_url', image_url: { url, ...(isDetail(detail) && { detail }) } }
  return own?.provider === 'assistants' ? own.part : null
}

const isDetail = (detail: unknown) => detail === 'auto' || detail === 'low' || detail === 'high'

const toResponses =
  (role: string) =>
  ({ text, isRefusal, url, detail, own }: ReadPart): Part | null => {
    const isAnswer = role === 'assistant'
    if (text !== undefined)
      return isAnswer && isRefusal
        ? { type: 'refusal', refusal: text }
        : { type: isAnswer ? 'output_text' : 'input_text', text }
    // An answer holds no pictures here.
    if (isAnswer) return null
    if (url !== undefined)
      return { type: 'input_image', image_url: url, ...(isDetail(detail) && { detail }) }
    return own?.provider === 'responses' ? own.part : null
  }

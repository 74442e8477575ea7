import { z } from 'zod'
import { duplicateItem, withIdNotFound } from '../errors.ts'
import { longId } from '../ids.ts'
import type { Item } from './objects.ts'

const contentSchema = z.union([z.string(), z.array(z.looseObject({ type: z.string() }))])
const messageSchema = z.strictObject({
  type: z.literal('message').optional(),
  id: z.string().optional(),
  status: z.string().nullish(),
  phase: z.string().nullish(),
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content: contentSchema,
})
const callSchema = z.looseObject({
  type: z.literal('function_call'),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
})
const outputSchema = z.looseObject({
  type: z.literal('function_call_output'),
  call_id: z.string(),
  output: contentSchema,
})
const own = new Set(['message', 'function_call', 'function_call_output'])
const otherSchema = z.looseObject({
  type: z.string().refine((type) => !own.has(type), { abort: true }),
})

/** One input item: a message, a call, its output, or any of the kinds that are only passed along. */
const itemSchema = z.union([messageSchema, callSchema, outputSchema, otherSchema])
export const itemsSchema = z.array(itemSchema)
export type InputItem = z.infer<typeof itemSchema>

const idPrefixes: Record<string, string> = { message: 'msg', reasoning: 'rs' }

function servedContent(role: string, content: z.infer<typeof contentSchema>): object[] {
  if (typeof content !== 'string') return content
  return role === 'assistant'
    ? [{ type: 'output_text', annotations: [], logprobs: [], text: content }]
    : [{ type: 'input_text', text: content }]
}

/** An input item as the API gives it back: with id and status, a message's text as a content part. */
function servedItem(input: InputItem): Item {
  const type = 'role' in input ? 'message' : (input.type as string)
  const id = idOf(input) ?? longId(idPrefixes[type] ?? 'fc')
  const served = { type, ...(own.has(type) && { status: 'completed' }), ...input, id }
  if (!('role' in input)) return served as unknown as Item
  const { role, content } = input
  return { ...served, content: servedContent(role as string, content as string), role } as Item
}

const idOf = (input: InputItem): string | undefined => (input as { id?: string }).id

/** Whether some reference names an item that is not in the context. */
export const refersToNothing = (input: readonly InputItem[], context: readonly Item[]): boolean =>
  input.some(
    (one) =>
      'type' in one && one.type === 'item_reference' && !context.some(({ id }) => id === idOf(one)),
  )

/**
 * `input` behind `context`. A reference adds nothing: what it names must stand in the context. An
 * id may not occur twice.
 */
export function servedItems(input: readonly InputItem[], context: readonly Item[]): Item[] {
  const known = new Set(context.map((item) => item.id))
  return input.flatMap((one) => {
    const id = idOf(one)
    if ('type' in one && one.type === 'item_reference') {
      if (!known.has(id ?? '')) throw withIdNotFound('Item', id ?? '')
      return []
    }
    if (id !== undefined && known.has(id)) throw duplicateItem(id)
    const item = servedItem(one)
    known.add(item.id)
    return [item]
  })
}

/** Text parts joined by newlines. */
export const itemText = (content: unknown): string =>
  typeof content === 'string'
    ? content
    : (content as Array<{ text?: string }>).flatMap(({ text }) => text ?? []).join('\n')

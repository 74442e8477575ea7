import type { ConversationItem } from 'openai/resources/conversations/items'
import type {
  Response,
  ResponseStreamEvent,
  ResponseUsage,
} from 'openai/resources/responses/responses'

/** A conversation's item, an input item and an output item are one thing on the wire. */
export type Item = ConversationItem & { id: string }

/*
 * The SDK's response, but for where recorded answers differ from it: `user` and `usage` may be
 * null, `output_text` is the SDK's own addition, `access_programs` is absent, and some more is there.
 */
export type ServedResponse = Omit<
  Response,
  'output' | 'output_text' | 'access_programs' | 'user' | 'usage'
> & {
  output: Item[]
  user: string | null
  usage: ResponseUsage | null
  billing?: { payer: 'developer' }
  frequency_penalty: number
  presence_penalty: number
  store: boolean
}

type WithoutNumber<E> = E extends unknown ? Omit<E, 'sequence_number' | 'response' | 'item'> : never
/** An event before it gets its number; responses and items in the shapes above. */
export type ServedEvent = WithoutNumber<ResponseStreamEvent> & {
  response?: ServedResponse
  item?: Item
}

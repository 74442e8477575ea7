import type { Handler } from './context.ts'
import type { Hold } from './data/hold.ts'
import { Refusal } from './refusal.ts'

export const hold: Handler<Hold> = async () => {
  throw new Refusal('hold_not_served', 'No dispatcher here serves a hold.')
}

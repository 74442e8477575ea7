import { unansweredCall, uncalledOutput } from '../errors.ts'
import type { Item } from './objects.ts'

/** Every call must have been answered, and every output must answer a call not yet answered. */
export function checkCallsAnswered(items: readonly Item[]): void {
  const open = new Set<string>()
  for (const item of items) {
    if (item.type === 'function_call') open.add(item.call_id)
    if (item.type === 'function_call_output' && !open.delete(item.call_id ?? ''))
      throw uncalledOutput(item.call_id ?? '')
  }
  for (const callId of open) throw unansweredCall(callId)
}

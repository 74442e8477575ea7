import type { StoredItem } from '../model/stored-item.ts'
import type { ProviderName } from '../model/thread.ts'
import { type CopiedItem, copyable } from '../provider/copyable.ts'

/** What is copied: all items, oldest first, and the same however often they are read. */
export type CopySource = {
  /** As `thread_generations.copied_from` says it. */
  name: string
  read(): AsyncIterable<StoredItem>
}

/** Which items of a source are copied. */
export type CopyRange = {
  /** The first of them, counted from 0; Infinity: none. */
  begin: number
  /** Calls that have their output there, behind them. */
  answered: ReadonlySet<string>
}

/** One item of the range; `copied` is null where it is left out. */
export type RangeItem = { item: StoredItem; copied: CopiedItem | null }

/**
 * The range with the last `last` messages that `target` can hold (null: everything). It begins with a
 * message, and a call is in it only together with its output.
 */
export async function rangeOf(
  source: CopySource,
  last: number | null,
  target: ProviderName,
): Promise<CopyRange> {
  const messages: number[] = []
  const called = new Map<string, number>()
  const answered = new Map<string, number>()
  let index = 0
  if (last !== 0)
    for await (const item of source.read()) {
      const { kind, callId } = copyable(item, target) ?? {}
      if (kind === 'message' && last !== null) messages.push(index)
      if (kind === 'call') called.set(callId as string, index)
      const asked = kind === 'output' ? called.get(callId as string) : undefined
      if (asked !== undefined) answered.set(callId as string, asked)
      index += 1
    }
  const begin = last === null ? 0 : last === 0 ? Infinity : (messages.at(-last) ?? 0)
  const within = [...answered].filter(([, asked]) => asked >= begin)
  return { begin, answered: new Set(within.map(([callId]) => callId)) }
}

/** What of the source is in the range, and how it is copied. */
export async function* itemsInRange(
  source: CopySource,
  { begin, answered }: CopyRange,
  target: ProviderName,
): AsyncGenerator<RangeItem> {
  if (begin === Infinity) return
  let index = 0
  for await (const item of source.read()) {
    if (index++ < begin) continue
    const copied = copyable(item, target)
    const isLone = copied !== null && copied.callId !== null && !answered.has(copied.callId)
    yield { item, copied: isLone ? null : copied }
  }
}

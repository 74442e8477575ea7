import type { StoredItem } from '../model/stored-item.ts'
import { tagOf } from '../provider/run-parameters.ts'
import { turnsOfItems } from '../store/item-turns.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { OperationContext } from './context.ts'

/**
 * Messages of one second come in any order. Those that operations of the thread have added are put into
 * the order of their turns, a message before its answer; somebody else's stay where they came.
 */
export async function orderedWithinSeconds(
  { pool, operation, call }: OperationContext,
  items: readonly StoredItem[],
): Promise<StoredItem[]> {
  const seconds = [...Map.groupBy(items, ({ said_at }) => said_at).values()]
  const tied = seconds.filter((second) => second.length > 1).flat()
  if (tied.length === 0) return [...items]
  const marks = tied.map(({ id, run_id, metadata }) => ({
    id,
    run_id,
    operation_id: operationIdOf(metadata),
  }))
  const turns = await whileLocked(call.signal, () => turnsOfItems(pool, operation.thread_id, marks))
  return seconds.flatMap((second) => inTurn(second, turns))
}

function inTurn(second: readonly StoredItem[], turns: ReadonlyMap<string, number>): StoredItem[] {
  const turnOf = ({ id }: StoredItem) => turns.get(id) as number
  const answers = ({ run_id }: StoredItem) => Number(run_id !== null)
  const known = second
    .filter(({ id }) => turns.has(id))
    .sort((one, other) => turnOf(one) - turnOf(other) || answers(one) - answers(other))
    .values()
  return second.map((item) => (turns.has(item.id) ? (known.next().value as StoredItem) : item))
}

function operationIdOf(metadata: StoredItem['metadata']): number | null {
  const id = Number(tagOf(metadata) ?? Number.NaN)
  return Number.isSafeInteger(id) ? id : null
}

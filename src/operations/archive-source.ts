import type { StoredItem } from '../model/stored-item.ts'
import { readArchivedItems } from '../store/archived-items.ts'
import { whileLocked } from '../store/while-locked.ts'
import type { OperationContext } from './context.ts'
import type { CopySource } from './copy-source.ts'

const itemsPerPage = 100

/** All that an archive holds, page by page. */
export function archiveSource(
  { pool, call }: OperationContext,
  archiveId: number,
  name: string,
): CopySource {
  async function* read(): AsyncGenerator<StoredItem> {
    for (let position = 0; ; position += itemsPerPage) {
      const items = await whileLocked(call.signal, () =>
        readArchivedItems(pool, archiveId, position, itemsPerPage),
      )
      yield* items
      if (items.length < itemsPerPage) return
    }
  }
  return { name, read }
}

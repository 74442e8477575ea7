import type { Database } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import {
  type Archive,
  type ArchivedMessage,
  type ArchivedRun,
  findArchive,
  readArchivedMessages,
  readArchivedRuns,
} from '../store/archive-reading.ts'

/** Rows that are in memory at once. */
const pageRows = 100

/** Throws `archive_not_found`. */
export async function requireArchive(database: Database, id: number): Promise<Archive> {
  const archive = await findArchive(database, id)
  if (archive) return archive
  throw new InturnError('archive_not_found', `There is no archive ${id}.`, {
    hint: '"inturn archives" lists those that there are; one that is still being written is not among them.',
  })
}

/** All items of an archive, in order. Throws `archive_not_found`, also where it is deleted meanwhile. */
export async function* itemsOf(
  database: Database,
  { id, items }: Archive,
): AsyncGenerator<ArchivedMessage, void, undefined> {
  let position = 0
  while (position < items) {
    const page = await readArchivedMessages(database, id, position, pageRows)
    const last = page.at(-1)
    // A deleted archive goes in steps, from its beginning on.
    if (last === undefined || page[0]?.position !== position + 1)
      throw new InturnError('archive_not_found', `Archive ${id} was deleted while it was read.`, {
        hint: 'What was read of it so far is not all: throw it away.',
      })
    yield* page
    position = last.position
  }
}

/** All runs of an archive that are known, in the order of their turns. */
export async function* runsOf(
  database: Database,
  { id }: Archive,
): AsyncGenerator<ArchivedRun, void, undefined> {
  let turn = 0
  for (;;) {
    const page = await readArchivedRuns(database, id, turn, pageRows)
    const last = page.at(-1)
    if (last === undefined) return
    yield* page
    turn = last.turn
  }
}

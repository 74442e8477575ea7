/** What a writer sent, and what it saw of it, on one clock that counts up with each event of any writer. */
export type Sent = {
  id: number
  thread: string
  transaction: number
  insertBegan: number
  /** Null: rolled back, or refused by the database. Infinity: committed, nobody knows when. */
  committed: number | null
}

/** Pairs of one thread for which `turnOf` breaks the order that the line promises. */
export function brokenPromises(
  sent: readonly Sent[],
  turnOf: ReadonlyMap<number, number>,
): Array<{ thread: string; first: number; second: number }> {
  const broken: Array<{ thread: string; first: number; second: number }> = []
  const committed = sent.filter((row) => row.committed !== null)
  for (const [thread, rows] of Map.groupBy(committed, (row) => row.thread)) {
    for (const first of rows) {
      for (const second of rows) {
        const mustPrecede =
          first.transaction === second.transaction
            ? first.insertBegan < second.insertBegan
            : (first.committed as number) < second.insertBegan
        if (mustPrecede && (turnOf.get(first.id) as number) >= (turnOf.get(second.id) as number))
          broken.push({ thread, first: first.id, second: second.id })
      }
    }
  }
  return broken
}

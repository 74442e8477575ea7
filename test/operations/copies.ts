import type pg from 'pg'
import { waitFor } from '../support/wait-for.ts'
import { type Line, who } from './line.ts'

/** A turn whose answer is known. */
export const turn = (answer: string) => ({ message: `reply with exactly: ${answer}`, ...who })

/** What `turn` leaves behind. */
export const spoken = (...answers: string[]): string[] =>
  answers.flatMap((answer) => [`user: reply with exactly: ${answer}`, `assistant: ${answer}`])

/** What the provider thread holds, in its true order. */
export const history = (line: Line, providerThreadId: string): string[] =>
  line.emulator.history(providerThreadId).map(({ role, text }) => `${role}: ${text}`)

export const copiesPath = /\/(threads|conversations)\/\w+\/(messages|items)$/
const createPath = /\/(threads|conversations)$/
const deletePath = /\/(threads|conversations)\/\w+$/

/** How many provider threads there are: those created that were not deleted. */
export function providerThreads(line: Line): number {
  const gone = new Set(line.sent('DELETE', deletePath).map(({ path }) => path))
  return line.sent('POST', createPath).length - gone.size
}

export const generations = async (pool: pg.Pool, thread: string) =>
  (
    await pool.query('select * from thread_generations where thread_id = $1 order by generation', [
      thread,
    ])
  ).rows

/** The operation has a copy with so many items. */
export const copied = (line: Line, id: number, items: number) =>
  waitFor(async () => ((await line.row(id)).progress?.copying?.copied ?? -1) >= items, {
    message: `operation ${id} has copied ${items} items`,
  })

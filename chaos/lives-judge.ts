import type pg from 'pg'
import type { Emulator, HistoryEntry } from '../src/emulator/index.ts'
import { isForeign } from './history.ts'
import { type Offender, offender } from './offender.ts'
import { archived, type Generation, messagesOf } from './story.ts'

/**
 * What was deleted is gone at the provider, what was archived is what stood there, and a provider thread
 * that is a copy begins with what it was copied from.
 */
export async function brokenLives(
  pool: pg.Pool,
  emulator: Emulator,
  generations: readonly Generation[],
): Promise<Offender[]> {
  const found: Offender[] = []
  const byProviderThread = new Map(generations.map((one) => [one.provider_thread_id, one]))
  for (const generation of generations) {
    const { thread_id, provider_thread_id, archive_id, deleted_at, copied_from } = generation
    const say = (text: string) =>
      found.push(offender('life', thread_id, [], `${provider_thread_id}: ${text}`))
    const messages = await messagesOf(pool, emulator, generation)
    const texts = textsOf(messages)
    if (deleted_at !== null && isKnown(emulator, provider_thread_id))
      say('was deleted, and the provider has it')
    const kept = emulator
      .keptItems()
      .filter(({ conversation }) => conversation === provider_thread_id)
    if (kept.length > 0) say(`was deleted, and the provider has kept ${kept.length} items`)
    if (deleted_at === null && archive_id !== null) {
      const copied = textsOf(await archived(pool, archive_id))
      if (copied.join('\n') !== texts.slice(0, copied.length).join('\n'))
        say(`archive ${archive_id} holds ${copied.join(', ')}; there stands ${texts.join(', ')}`)
    }
    const source = byProviderThread.get(copied_from ?? '')
    if (source !== undefined) {
      const copy = textsOf(messages.slice(0, generation.carried_over))
      const whole = textsOf(await messagesOf(pool, emulator, source))
      if (!whole.join('\n').includes(copy.join('\n')))
        say(`begins with ${copy.join(', ')}; copied from ${whole.join(', ')}`)
    }
  }
  return found
}

function isKnown(emulator: Emulator, providerThread: string): boolean {
  try {
    emulator.history(providerThread)
    return true
  } catch {
    return false
  }
}

/** Without outsiders: nothing tells where in its second one of theirs was said (Assistants). */
const textsOf = (entries: readonly HistoryEntry[]): string[] =>
  entries.flatMap(({ text }) => (isForeign(text) ? [] : [text]))

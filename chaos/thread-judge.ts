import type pg from 'pg'
import type { Emulator } from '../src/emulator/index.ts'
import {
  answerOf,
  isInOrder,
  type Judged,
  miscounted,
  plainly,
  saidBy,
  tracesOf,
} from './history.ts'
import { type Offender, offender } from './offender.ts'
import { type Generation, storyOf } from './story.ts'

export type Thread = { id: string; provider: string; provider_thread_id: string | null }

type Lives = { pool: pg.Pool; emulator: Emulator; generations: readonly Generation[] }

const adding = [
  'create_thread',
  'add_message',
  'create_run',
  'add_message_and_run',
  'update_thread',
]

/** Compares the operations of one thread with what its provider threads hold. */
export async function judgeThread(
  { id, provider, provider_thread_id }: Thread,
  operations: readonly Judged[],
  { pool, emulator, generations }: Lives,
): Promise<Offender[]> {
  const started = operations.filter(({ turn }) => turn !== null)
  if (started.length === 0) return []
  if (generations.length === 0) {
    // What adds nothing needs none.
    const done = started
      .filter(({ status, operation }) => status === 'completed' && adding.includes(operation))
      .map((done) => done.id)
    return done.length > 0
      ? [offender('loss', id, done, 'completed without a provider thread')]
      : []
  }
  const byId = new Map(operations.map((operation) => [operation.id, operation]))
  const traced = (operation: Judged) => {
    const merged = (operation.merges ?? []).flatMap((id) => byId.get(id) ?? [])
    return tracesOf(operation, merged)
  }
  const traces = started.flatMap(traced)
  const runs = generations.flatMap((one) => emulator.runs(one.provider_thread_id))
  const said = saidBy(await storyOf(pool, emulator, generations), runs)
  const about = (texts: readonly string[]) =>
    started
      .filter((one) => traced(one).some(({ text }) => texts.includes(text)))
      .map((one) => one.id)
  const { twice, missing } = miscounted(said, traces)
  const found: Offender[] = []
  if (twice.length > 0)
    found.push(offender('duplicate', id, about(twice), `said too often: ${twice.join(', ')}`))
  if (missing.length > 0)
    found.push(offender('loss', id, about(missing), `not said: ${missing.join(', ')}`))
  if (found.length === 0 && !isInOrder(said, traces))
    found.push(offender('order', id, about(said), `said in the order ${said.join(', ')}`))
  for (const { id: operation, data, status, result } of started) {
    const answer = answerOf(data)
    if (status === 'completed' && answer !== undefined && !tells(result, answer))
      found.push(offender('loss', id, [operation], `its result is ${JSON.stringify(result?.text)}`))
  }
  // A conversation that begins anew knows nothing of the one before.
  const isNew = generations.some(({ ended_by }) => ended_by === 'expired' || ended_by === 'deleted')
  if (provider_thread_id === null || isNew) return found
  const metadata = await metadataOf(emulator, provider, provider_thread_id)
  const written = started.filter(({ data }) => data.metadata !== undefined)
  const lastDone = written.findLastIndex(({ status }) => status === 'completed')
  const candidates = written.slice(Math.max(0, lastDone)).map(({ data }) => data.metadata?.number)
  if (lastDone >= 0 && !candidates.includes(metadata.number))
    found.push(
      offender(
        'order',
        id,
        written.map((one) => one.id),
        `metadata is ${JSON.stringify(metadata)}`,
      ),
    )
  return found
}

async function metadataOf(
  { url }: Emulator,
  provider: string,
  id: string,
): Promise<Record<string, string>> {
  const kind = provider === 'responses' ? 'conversations' : 'threads'
  const headers = { authorization: 'Bearer judge', 'openai-beta': 'assistants=v2' }
  const answer = await fetch(`${url}/${kind}/${id}`, { headers })
  return ((await answer.json()) as { metadata?: Record<string, string> }).metadata ?? {}
}

/** Where the run's id was lost and reads lag, an outsider's answer may stand right behind. */
function tells(result: Judged['result'], answer: string): boolean {
  const text = plainly(result?.text ?? '')
  return result?.run?.id === null ? text.startsWith(answer) : text === answer
}

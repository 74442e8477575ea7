import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { emulated } from './emulated.ts'
import { type Json, shapeProblems } from './shapes.ts'

// Recorded exchanges with the real API are no part of the project: without them there is nothing to compare with.
const folder = join(process.env.INTURN_SHARED ?? '../shared', 'openai/recordings')
const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.json')) : []

type Exchange = {
  method: string
  path: string
  request: Json
  status: number
  content_type: string
  response: Json
}

const read = (file: string): Exchange[] => JSON.parse(readFileSync(join(folder, file), 'utf8'))
/** Files and compaction are not emulated. */
const replayable = files.filter(
  (file) => !read(file).some(({ path }) => /^\/v1\/(files|responses\/compact)/.test(path)),
)

type StreamEvent = { event: string; data: Json }
const parseStream = (text: string): StreamEvent[] =>
  text
    .split('\n\n')
    .filter((block) => block.trim() !== '')
    .map((block) => {
      const [, event = '', data = ''] = /^event: (.*)\ndata: (.*)$/s.exec(block) ?? []
      return { event, data: data === '[DONE]' ? null : JSON.parse(data) }
    })
const order = (events: StreamEvent[]) =>
  events.map(({ event }) => event).filter((event, i, all) => event !== all[i - 1])

/** Learns which of our ids stands for which recorded one, wherever both answers have one at the same place. */
function learnIds(recorded: Json, ours: Json, ids: Map<string, string>): void {
  if (typeof recorded === 'string' && typeof ours === 'string') {
    const prefix = /^(asst|thread|run|msg|step|call|conv|resp|fc)_\w{20,}$/.exec(recorded)?.[1]
    if (prefix && ours.startsWith(`${prefix}_`)) ids.set(recorded, ours)
  } else if (recorded && ours && typeof recorded === 'object' && typeof ours === 'object') {
    for (const key of Object.keys(recorded))
      learnIds((recorded as never)[key] ?? null, (ours as never)[key] ?? null, ids)
  }
}

const statusOf = (body: Json): Json | undefined =>
  body !== null && typeof body === 'object' && 'status' in body ? body.status : undefined

const cases = replayable.length > 0 ? replayable : ['recordings']
test.skipIf(replayable.length === 0).each(cases)('%s: same shapes, same events', async (file) => {
  // Slow enough for a recorded cancel to meet a run that is not over yet.
  const { emulator } = await emulated({ latency: { queuedMs: 100, thinkMs: 0, perTokenMs: 0 } })
  const ids = new Map<string, string>()
  const translated = (text: string) => {
    for (const [recorded, ours] of ids) text = text.replaceAll(recorded, ours)
    return text
  }
  const send = async ({ method, path, request }: Exchange) => {
    const response = await fetch(new URL(translated(path), emulator.url), {
      method,
      headers: { authorization: 'Bearer any', 'openai-beta': 'assistants=v2' },
      ...(request === null ? {} : { body: translated(JSON.stringify(request)) }),
    })
    return { status: response.status, text: await response.text() }
  }

  for (const exchange of read(file)) {
    const { method, path, status, content_type, response: recorded } = exchange
    const where = `${method} ${path}`
    const answer = await send(exchange)
    expect([where, answer.status]).toEqual([where, status])
    if (content_type.includes('event-stream')) {
      const theirs = parseStream((recorded as string[]).join(''))
      const ours = parseStream(answer.text)
      expect(order(ours)).toEqual(order(theirs))
      for (const [event, recordings] of Map.groupBy(theirs, ({ event }) => event)) {
        const own = ours.filter((one) => one.event === event)
        for (const [i, { data }] of recordings.entries()) {
          const same = (own[i] ?? own.at(-1))?.data ?? null
          learnIds(data, same, ids)
          expect(shapeProblems(data, same, `${where} ${event}`)).toEqual([])
        }
      }
      continue
    }
    let ours = JSON.parse(answer.text) as Json
    // Where the recording polled until something had happened, so do we.
    if (method === 'GET' && status === 200 && statusOf(recorded) !== 'queued')
      await expect
        .poll(async () => {
          ours = JSON.parse((await send(exchange)).text)
          return /completed|requires_action/.test(String(statusOf(recorded)))
            ? statusOf(ours)
            : statusOf(recorded)
        })
        .toBe(statusOf(recorded))
    learnIds(recorded, ours, ids)
    expect(shapeProblems(recorded, ours, where)).toEqual([])
  }
})

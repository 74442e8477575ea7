import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { z } from 'zod'
import { defineTools, tool } from '../../../src/index.ts'

/** Tells the file that TOOL_LOG names what it does; the first attempt goes on until it is aborted. */
const say = (words: string) => appendFileSync(process.env.TOOL_LOG ?? '', `${words}\n`)

export default defineTools({
  get_weather: tool({
    arguments: z.object({ city: z.string().optional() }),
    async run(_args, { callId, attempt, signal }) {
      say(`${callId} ${attempt} begins in ${process.pid}`)
      signal.addEventListener('abort', () => say(`${callId} ${attempt} is aborted`))
      if (attempt === 1) await once(signal, 'abort')
      return `rain, by attempt ${attempt}`
    },
  }),
})

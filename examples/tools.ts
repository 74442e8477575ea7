import { z } from 'zod'
// In a project of yours: from 'inturn'.
import { defineTools, tool } from '../src/index.ts'

/** What the dispatcher answers by itself: `inturn dispatch --tools ./tools.ts`. */
export default defineTools({
  get_weather: tool({
    arguments: z.object({ city: z.string() }),
    run: ({ city }) => `21 degrees and sun in ${city}`,
  }),
})

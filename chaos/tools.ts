import { z } from 'zod'
import { defineTools, tool } from '../src/index.ts'

/** What the dispatchers answer by themselves. */
export default defineTools({
  look_up: tool({ arguments: z.object({}), run: () => 'looked up' }),
})

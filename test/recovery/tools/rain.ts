import { z } from 'zod'
import { defineTools, tool } from '../../../src/index.ts'

const rain = tool({ arguments: z.object({}), run: () => 'rain' })

/** One tool for each provider; a dispatcher that is to die in one has no other, so that nobody takes its calls. */
const all = defineTools({ responses_weather: rain, assistants_weather: rain })
const { TOOLS_OF = '' } = process.env

export default Object.fromEntries(Object.entries(all).filter(([name]) => name.startsWith(TOOLS_OF)))

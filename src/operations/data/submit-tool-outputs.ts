import { z } from 'zod'

/** Answers calls that the run of the thread waits for: all of a round at once, or one by one. */
export const submitToolOutputs = z
  .strictObject({
    outputs: z
      .array(z.looseObject({}))
      .min(1)
      .describe('What the calls gave: `[{"call_id": "call_…", "output": "21 degrees"}]`.'),
  })
  .meta({ examples: [{ outputs: [{ call_id: 'call_1', output: '21 degrees' }] }] })

/** `output` is the text that the model reads; content parts on Conversations. */
export type ToolOutput = {
  call_id: string
  output: string | ReadonlyArray<Record<string, unknown>>
}

export type SubmitToolOutputs = { outputs: readonly ToolOutput[] }

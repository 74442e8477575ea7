import type { OpenAI } from 'openai'
import type { AnsweredCall, Run } from '../model/run.ts'
import { type Follow, followAssistantsRun, streamAssistantsRun } from './assistants-run.ts'
import { once } from './client.ts'

/** Submits the outputs of all calls that a run waits for, and follows it from there. */
export async function submitAssistantsOutputs(
  client: OpenAI,
  threadId: string,
  runId: string,
  calls: readonly AnsweredCall[],
  onTaken: () => Promise<void>,
  options: Follow,
): Promise<Run> {
  const tool_outputs = calls.map(({ call_id, output }) => ({
    tool_call_id: call_id,
    output: typeof output === 'string' ? output : JSON.stringify(output),
  }))
  const open = () =>
    client.beta.threads.runs.submitToolOutputs(
      runId,
      { thread_id: threadId, tool_outputs, stream: true },
      once(options),
    )
  const run = await streamAssistantsRun(client, threadId, open, onTaken, options)
  // What it had said before it asked is not in this stream.
  return run.status === 'requires_action'
    ? run
    : followAssistantsRun(client, threadId, runId, options)
}

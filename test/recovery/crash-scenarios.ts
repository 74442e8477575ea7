import type { OperationKind } from '../../src/model/operation.ts'

/** One kind of operation in one situation, and what must have come of it however often its dispatcher died. */
export type Scenario = {
  name: string
  operation: OperationKind
  data: object
  /** There has been a turn on the thread before, with an equal message. */
  continued: boolean
  /** It has to create the provider thread first, which is not what it asks for. */
  beginsThread?: true
  /** Messages that wait before it, and which its run takes along. */
  merges?: string[]
  status: 'completed' | 'failed'
  /** What it adds to the provider thread, as `role: text`. */
  adds: string[]
  /** Metadata of the provider thread afterwards. */
  metadata?: Record<string, string>
}

/** A run with this model fails at the first try of each operation. */
export const failsOnce = 'gpt-that-fails-once'

const who = { assistant_id: 'asst_abcdefghijklmnopqrstuvwx' }
const turn = (answer: string) => ({
  operation: 'add_message_and_run' as const,
  data: { message: 'ok', instructions: `Reply with exactly: ${answer}`, ...who },
})

/** Done on every thread afterwards, to show that its line goes on. Its message is one that was there before. */
export const followUp = { ...turn('after'), adds: ['user: ok', 'assistant: after'] }
/** Done on a continued thread before. */
export const earlier = { ...turn('before'), adds: ['user: ok', 'assistant: before'] }

const completed = { status: 'completed', continued: true } as const
const onNewThread = { continued: false, beginsThread: true } as const
const message = {
  ...completed,
  operation: 'add_message' as const,
  data: { message: 'ok' },
  adds: ['user: ok'],
}
const messageAndRun = { ...completed, ...turn('now'), adds: ['user: ok', 'assistant: now'] }
/** A turn whose model calls `responses_…` or `assistants_…`: each provider reads its own half of the tool. */
const calling = (name: string) => {
  const described = (provider: string) => ({
    name: `${provider}_${name}`,
    parameters: { type: 'object', properties: {} },
  })
  const tool = { type: 'function', strict: false, ...described('responses') }
  return {
    ...completed,
    operation: 'add_message_and_run' as const,
    data: {
      message: `Call responses_${name} or assistants_${name}.`,
      tools: [{ ...tool, function: described('assistants') }],
      ...who,
    },
  }
}
const weather = calling('weather')
const time = calling('time')
const update = {
  ...completed,
  operation: 'update_thread' as const,
  data: { metadata: { mood: 'calm' } },
  adds: [],
  metadata: { mood: 'calm' },
}

export const scenarios: Scenario[] = [
  {
    ...completed,
    continued: false,
    name: 'create_thread',
    operation: 'create_thread',
    data: { metadata: { made: 'once' } },
    adds: [],
    metadata: { made: 'once' },
  },
  { ...message, name: 'add_message' },
  { ...message, ...onNewThread, name: 'add_message on a new thread' },
  {
    ...completed,
    name: 'create_run',
    operation: 'create_run',
    data: { instructions: 'Reply with exactly: now', ...who },
    adds: ['assistant: now'],
  },
  { ...messageAndRun, name: 'add_message_and_run' },
  { ...messageAndRun, ...onNewThread, name: 'add_message_and_run on a new thread' },
  {
    ...messageAndRun,
    name: 'add_message_and_run whose first run fails',
    data: { ...messageAndRun.data, model: failsOnce },
  },
  {
    ...weather,
    name: 'add_message_and_run whose model calls a tool',
    adds: ['user: Call weather or weather.', 'assistant: According to weather: rain'],
  },
  {
    ...time,
    name: 'add_message_and_run whose model calls a tool that nobody has',
    data: { ...time.data, tool_deadline_ms: 1, on_tool_deadline: 'cancel' },
    status: 'failed',
    adds: ['user: Call time or time.'],
  },
  {
    ...messageAndRun,
    name: 'add_message_and_run that merges equal messages',
    merges: ['ok', 'ok'],
    adds: ['user: ok', 'user: ok', ...messageAndRun.adds],
  },
  {
    ...completed,
    name: 'create_run that merges a message',
    operation: 'create_run',
    data: { instructions: 'Reply with exactly: now', ...who },
    merges: ['ok'],
    adds: ['user: ok', 'assistant: now'],
  },
  { ...update, name: 'update_thread' },
  { ...update, ...onNewThread, name: 'update_thread on a new thread' },
]

export function scenarioNamed(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name)
  if (!found) throw new Error(`There is no scenario "${name}".`)
  return found
}

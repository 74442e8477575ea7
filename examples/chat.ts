/**
 * A chat in the terminal: `npm run example:chat`. It starts `inturn dev`, which uses the emulator, or
 * OpenAI where OPENAI_API_KEY is set. With DATABASE_URL it uses what runs there already.
 *
 * What it shows: answers that are printed while they come, a tool call, a stop button (Ctrl-C or /stop),
 * and a second message while the first is being answered.
 */
import { createInterface } from 'node:readline'
// In a project of yours: from 'inturn'.
import { Inturn, type InturnError, type OperationHandle } from '../src/index.ts'
import { startDev } from './dev.ts'

const help = `Write a message, also while an answer comes; ask for the weather in a city. Commands:
  /stop             ends the answer that comes (so does Ctrl-C)
  /busy <strategy>  for messages while an answer comes: enqueue, interrupt, merge,
                    interrupt+merge, latest or reject
  /quit             leaves when everything is answered
`

const strategies = ['enqueue', 'interrupt', 'merge', 'interrupt+merge', 'latest', 'reject'] as const
const run = {
  model: process.env.MODEL ?? 'gpt-5-mini',
  // What the model may ask for; tools.ts answers it.
  tools: [
    {
      type: 'function' as const,
      name: 'get_weather',
      description: 'The weather in a city, now',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
      strict: false,
    },
  ],
}

const dev = process.env.DATABASE_URL ? undefined : await startDev()
const inturn = new Inturn({ databaseUrl: process.env.DATABASE_URL ?? dev?.databaseUrl ?? '' })
const thread = inturn.thread(`chat:${Date.now()}`)

const terminal = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' })
terminal.on('SIGINT', () => void (answers.size > 0 ? stop() : terminal.close()))

/** Those that are being printed, or will be. */
const answers = new Set<Promise<void>>()
let isOpen = true
terminal.on('close', () => {
  isOpen = false
})
let ifBusy: (typeof strategies)[number] = 'enqueue'

console.log(help)
terminal.prompt()
for await (const line of terminal) {
  const [command, argument] = line.trim().split(/\s+/)
  if (command === '/quit') break
  else if (command === '/stop') await stop()
  else if (command === '/busy') setStrategy(argument)
  else if (command) await send(line.trim())
}
terminal.close()
await Promise.all(answers)
await inturn.close()
await dev?.stop()

async function send(message: string): Promise<void> {
  const handle = await thread.send(message, run, { ifBusy })
  const answer = print(handle).finally(() => answers.delete(answer))
  answers.add(answer)
}

/** Prints an answer while it comes. Its end is always visible, whatever became of it. */
async function print(handle: OperationHandle): Promise<void> {
  for await (const event of handle.stream()) {
    if (event.type === 'text') process.stdout.write(event.delta)
    if (event.type === 'tool_call') console.log(`[${event.name} ${event.arguments}]`)
    if (event.type === 'restarted') console.log('\n[the run failed; another one begins]')
  }
  const problem = await handle.result().then(
    () => '',
    ({ message }: InturnError) => ` [${message}]`,
  )
  console.log(problem)
  if (isOpen) terminal.prompt()
}

/** The stop button: whatever is being answered now. */
async function stop(): Promise<void> {
  const { outcome } = await (await thread.cancel()).result()
  if (outcome === 'nothing_to_do') console.log('[there is nothing to stop]')
}

function setStrategy(given: string | undefined): void {
  const found = strategies.find((strategy) => strategy === given)
  if (found) ifBusy = found
  console.log(`[while an answer comes: ${ifBusy}; there are ${strategies.join(', ')}]`)
}

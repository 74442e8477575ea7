import type { Command } from 'commander'
import { InturnError } from '../errors.ts'
import {
  type Assistant,
  findAssistant,
  listAssistants,
  removeAssistant,
  saveAssistant,
} from '../store/assistants.ts'
import { withDatabase } from './database.ts'
import { UsageError } from './failure.ts'
import { formatTable } from './table.ts'

export function assistantsCommand(program: Command): void {
  const assistants = program
    .command('assistants')
    .description('what data.assistant_id names on the provider `responses`')
    .addHelpText('after', examples)
  addCommand(assistants)
  listCommand(assistants)
  showCommand(assistants)
  removeCommand(assistants)
}

const examples = `
Example:
  $ inturn assistants add asst_support --model gpt-5 --instructions "You are brief."

The provider \`assistants\` keeps its own; these rows are not looked at there.`

function addCommand(assistants: Command): void {
  assistants
    .command('add')
    .description('add one, or replace all of the one that has this id')
    .argument('<id>', 'what data.assistant_id says, like asst_support')
    .option('--model <name>', 'the model; without one, a prompt is needed')
    .option('--prompt <json>', `template of the provider, like '{"id": "pmpt_1"}'`)
    .option('--instructions <text>', 'system message')
    .option('--tools <json>', "array of tools in the provider's own shape")
    .option('--parameters <json>', 'further parameters of every run')
    .action(async (id, options, command: Command) => {
      const assistant: Assistant = {
        id,
        model: options.model ?? null,
        prompt: json(options.prompt, '--prompt') as Assistant['prompt'],
        instructions: options.instructions ?? null,
        tools: json(options.tools, '--tools') as Assistant['tools'],
        parameters: (json(options.parameters, '--parameters') ?? {}) as Assistant['parameters'],
      }
      check(assistant)
      await withDatabase(command, ({ pool }) => saveAssistant(pool, assistant))
      console.log(`saved ${id}`)
    })
}

function listCommand(assistants: Command): void {
  assistants
    .command('list')
    .description('list all')
    .option('--json', 'print JSON')
    .action(async (options, command: Command) => {
      const all = await withDatabase(command, ({ pool }) => listAssistants(pool))
      if (options.json) return console.log(JSON.stringify(all))
      if (all.length === 0) return console.log('There are none. "inturn assistants add" adds one.')
      const rows = all.map(({ id, model, prompt, tools, instructions }) => [
        id,
        model ?? `prompt ${prompt?.id}`,
        tools?.length ?? 0,
        instructions && `${instructions.replaceAll(/\s+/g, ' ').slice(0, 60)}`,
      ])
      console.log(formatTable(['ID', 'MODEL', 'TOOLS', 'INSTRUCTIONS'], rows))
    })
}

function showCommand(assistants: Command): void {
  assistants
    .command('show')
    .description('print one as JSON')
    .argument('<id>')
    .action(async (id, _options, command: Command) => {
      const found = await withDatabase(command, ({ pool }) => findAssistant(pool, id))
      if (!found) throw notFound(id)
      console.log(JSON.stringify(found, null, 2))
    })
}

function removeCommand(assistants: Command): void {
  assistants
    .command('remove')
    .description('remove one; operations that still name it will fail')
    .argument('<id>')
    .action(async (id, _options, command: Command) => {
      const removed = await withDatabase(command, ({ pool }) => removeAssistant(pool, id))
      if (!removed) throw notFound(id)
      console.log(`removed ${id}`)
    })
}

function check({ model, prompt, tools, parameters }: Assistant): void {
  if (model === null && prompt === null) {
    throw new UsageError('An assistant needs a --model or a --prompt.')
  }
  if (tools !== null && !Array.isArray(tools)) throw new UsageError('--tools must be a JSON array.')
  for (const [flag, value] of Object.entries({ '--prompt': prompt, '--parameters': parameters })) {
    if (value !== null && (typeof value !== 'object' || Array.isArray(value))) {
      throw new UsageError(`${flag} must be a JSON object.`)
    }
  }
}

function json(text: string | undefined, flag: string): unknown {
  if (text === undefined) return null
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new UsageError(`${flag} is no JSON: ${(error as Error).message}`)
  }
}

const notFound = (id: string) =>
  new InturnError('assistant_not_found', `There is no assistant ${id}.`, {
    hint: '"inturn assistants list" shows those that exist.',
  })

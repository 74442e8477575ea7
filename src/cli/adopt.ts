import { createReadStream } from 'node:fs'
import { type Command, Option } from 'commander'
import { Inturn } from '../client/inturn.ts'
import { InturnError } from '../errors.ts'
import { type ProviderName, providerNames, providerOfId } from '../model/thread.ts'
import { withDatabase } from './database.ts'
import { UsageError } from './failure.ts'
import { count } from './table.ts'
import { keyOptions, keysOf } from './threads.ts'

/** Ids of one statement. */
const batchSize = 1_000
/** Bad lines that are shown one by one. */
const mostShown = 20

export function adoptCommand(program: Command): void {
  keyOptions(program.command('adopt'))
    .description(
      'make provider threads that are there already threads of ours, under their own ids',
    )
    .argument('[ids...]', "the provider's ids: conv_… or thread_…")
    .option('--file <path>', 'take ids from a file, one a line; - is standard input')
    .addOption(
      new Option('--provider <name>', 'who holds them, where ids look unusual').choices(
        providerNames,
      ),
    )
    .option('--json', 'print JSON: {asked, before, bad}')
    .addHelpText('after', examples)
    .action((ids: string[], options, command: Command) => {
      const { file, provider, json } = options
      if ((file === undefined) === (ids.length === 0))
        throw new UsageError('Write ids, or --file with one id a line.')
      return withDatabase(command, async ({ pool, config: { schema } }) => {
        await using inturn = new Inturn({ pool, schema })
        const lines = file === undefined ? ids : linesOf(file)
        const adopt = async (batch: readonly string[]) =>
          (await inturn.adopt(batch, { provider, ...keysOf(options) })).length
        const tally = await adoptAll(lines, provider, adopt)
        console.log(json ? JSON.stringify(tally) : told(tally))
        if (tally.bad > 0) process.exitCode = 1
      })
    })
}

const examples = `
Each is looked at by a create_thread at the priority -10, behind all that is served at the usual one. It
fails where the provider does not know the id (provider_thread_not_found) or another thread of ours has it
(provider_thread_in_use): inturn status --failed. What was asked for before is not asked for again, so a
command that was interrupted is simply repeated.

Examples:
  $ inturn adopt thread_abc123abc123abc123abc123 --user 42
  $ inturn adopt --file ids.txt --label origin=old-app

The same by SQL: select * from adopt_threads(null, array['conv_…', 'conv_…'], p_user_id => '42');`

export type Tally = {
  /** Adoptions that were inserted. */
  asked: number
  /** Ids that had been asked for before. */
  before: number
  /** Lines that hold no id. */
  bad: number
}

/** One batch after the other, so a file of any length takes no more memory than a short one. */
async function adoptAll(
  lines: AsyncIterable<string> | Iterable<string>,
  provider: ProviderName | undefined,
  adopt: (batch: readonly string[]) => Promise<number>,
): Promise<Tally> {
  const tally: Tally = { asked: 0, before: 0, bad: 0 }
  let batch: string[] = []
  let number = 0
  const send = async () => {
    const asked = await adopt(batch)
    tally.asked += asked
    tally.before += batch.length - asked
    batch = []
    showProgress(number)
  }
  for await (const line of lines) {
    number += 1
    const id = line.trim()
    if (id === '') continue
    const problem = problemOf(id, provider)
    if (problem === undefined) batch.push(id)
    else if (++tally.bad <= mostShown)
      process.stderr.write(`${clear()}line ${number}: ${problem}\n`)
    if (batch.length === batchSize) await send()
  }
  if (batch.length > 0) await send()
  if (tally.bad > mostShown)
    process.stderr.write(`${clear()}… and ${tally.bad - mostShown} more lines without an id\n`)
  else process.stderr.write(clear())
  return tally
}

/** What the database would refuse the whole batch for. */
function problemOf(id: string, provider: ProviderName | undefined): string | undefined {
  const name = JSON.stringify(id.length > 60 ? `${id.slice(0, 60)}…` : id)
  const byShape = providerOfId(id)
  if (/\s/.test(id) || id.length > 255) return `${name} is no id of a provider thread`
  if (provider === undefined && byShape === undefined)
    return `${name} does not look like conv_… or thread_…; write --provider if it is right`
  if (provider !== undefined && byShape !== undefined && byShape !== provider)
    return `${name} is an id of ${byShape}, not of ${provider}`
  return undefined
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const input = file === '-' ? process.stdin : createReadStream(file)
  let rest = ''
  try {
    for await (const chunk of input.setEncoding('utf8')) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      yield* lines
    }
  } catch (error) {
    throw new InturnError('file_unreadable', `${file} cannot be read: ${(error as Error).message}`)
  }
  yield rest
}

const clear = () => (process.stderr.isTTY ? '\r\x1b[K' : '')

/** On a terminal a line that is written anew; elsewhere one for each 100,000. */
function showProgress(lines: number): void {
  if (process.stderr.isTTY) process.stderr.write(`${clear()}${lines} lines …`)
  else if (lines % 100_000 === 0) process.stderr.write(`${lines} lines …\n`)
}

const told = ({ asked, before, bad }: Tally): string =>
  [
    `asked for ${count(asked, 'adoption')}`,
    before > 0 && `${before} had been asked for before`,
    bad > 0 && `${count(bad, 'line')} without an id`,
  ]
    .filter(Boolean)
    .join('; ')

import type { Command } from 'commander'
import { laneKey, laneName } from '../model/lane.ts'
import { type ProviderName, providerNames } from '../model/thread.ts'
import { type LaneReport, listLanes, resumeLane } from '../store/lane-states.ts'
import { type LaneId, limitLane } from '../store/lanes.ts'
import { type OpenDatabase, withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { UsageError } from './failure.ts'
import { formatTable } from './table.ts'

export function lanesCommand(program: Command): void {
  const lanes = program
    .command('lanes')
    .description(
      'what each API key may do now, in the whole fleet: which rest, how many runs go on',
    )
    .option('--json', 'print JSON')
    .addHelpText('after', notes)
    .action((options, command: Command) =>
      withDatabase(command, async (database) => {
        const all = await listLanes(database)
        console.log(options.json ? JSON.stringify(all) : formatLanes(all))
      }),
    )
  resumeCommand(lanes)
  limitCommand(lanes)
}

const notes = `
A key is shown as the first 12 digits of its SHA-256. Without --key, the key of OPENAI_API_KEY (or
ASSISTANTS_API_KEY) is meant; where none is set, the only one that the database knows.
Without --model, all that is done with the key is meant.

Examples:
  $ inturn lanes limit responses 50 --model gpt-5
  $ inturn lanes resume responses --key 2c26b46b68ff

The same by SQL: select * from lane_states; select resume_lane('responses', '2c26b46b68ff');`

function resumeCommand(lanes: Command): void {
  which(lanes.command('resume'))
    .description('have a resting lane served again, now that its cause is gone')
    .action((provider, options, command: Command) =>
      withDatabase(command, async (database) => {
        const lane = await laneOf(database, provider, options)
        const known = await listLanes(database)
        if (!known.some((other) => isSame(other, lane))) throw unknownLane(lane, known)
        const rested = await resumeLane(database.pool, lane)
        const name = `${lane.provider} ${laneName(lane.key, lane.model)}`
        console.log(rested ? `resumed ${name}` : `${name} did not rest`)
      }),
    )
}

function limitCommand(lanes: Command): void {
  which(lanes.command('limit'))
    .argument('<n>', 'most runs at once in the whole fleet, or none', maximum)
    .description('set how many runs may go on at once')
    .action((provider, maxRuns: number | null, options, command: Command) =>
      withDatabase(command, async (database) => {
        const lane = await laneOf(database, provider, options)
        await limitLane(database.pool, lane, maxRuns)
        const most = maxRuns === null ? 'no maximum' : `at most ${maxRuns} at once`
        console.log(`${lane.provider} ${laneName(lane.key, lane.model)}: ${most}`)
      }),
    )
}

const which = (command: Command): Command =>
  command
    .argument('<provider>', providerNames.join(' or '), providerName)
    .option('--key <digits>', 'which key, as "inturn lanes" shows it')
    .option('--model <name>', 'only runs that name this model', '')

function providerName(text: string): ProviderName {
  const name = providerNames.find((name) => name === text)
  if (name === undefined) throw new UsageError(`Write ${providerNames.join(' or ')}, not ${text}.`)
  return name
}

function maximum(text: string): number | null {
  if (text === 'none') return null
  const runs = wholeNumber(text)
  if (runs === 0) throw new UsageError('Write a number from 1, or none for no maximum.')
  return runs
}

async function laneOf(
  database: OpenDatabase,
  provider: ProviderName,
  { key, model }: { key?: string; model: string },
): Promise<LaneId> {
  if (key !== undefined) {
    if (/^[0-9a-f]{12}$/.test(key)) return { provider, key, model }
    throw new UsageError(
      '--key must be 12 hexadecimal digits, not the key itself.',
      '"inturn lanes" shows those of the keys that were used.',
    )
  }
  const apiKey = database.config.providers[provider]?.apiKey
  if (apiKey !== undefined) return { provider, key: laneKey(apiKey), model }
  const lanes = (await listLanes(database)).filter((lane) => lane.provider === provider)
  const [only, ...others] = new Set(lanes.map((lane) => lane.key))
  if (only !== undefined && others.length === 0) return { provider, key: only, model }
  throw new UsageError(
    `Which key of ${provider} is meant? Write --key${only ? ` ${[only, ...others].join(' or ')}` : ''}.`,
  )
}

const isSame = (a: LaneId, b: LaneId) =>
  a.provider === b.provider && a.key === b.key && a.model === b.model

function unknownLane(lane: LaneId, known: readonly LaneReport[]): UsageError {
  const names = known.map(({ provider, key, model }) => `${provider} ${laneName(key, model)}`)
  return new UsageError(
    `There is no lane ${lane.provider} ${laneName(lane.key, lane.model)}.`,
    names.length > 0
      ? `There are: ${names.join(', ')}.`
      : 'None was ever paused or given a maximum.',
  )
}

function formatLanes(lanes: readonly LaneReport[]): string {
  if (lanes.length === 0) return 'No lane was ever paused or given a maximum: all are open.'
  const rows = lanes.map((lane) => [
    lane.provider,
    lane.key,
    lane.model,
    lane.state,
    lane.runs,
    lane.max_runs,
    lane.waiting,
    restText(lane),
  ])
  const titles = ['PROVIDER', 'KEY', 'MODEL', 'STATE', 'RUNS', 'AT MOST', 'WAITING', 'RESTS']
  return formatTable(titles, rows)
}

/** Until when and why, as it stands in a table and in the status. */
export function restText({ state, reason, paused_until }: LaneReport): string | null {
  if (state !== 'resting') return null
  const end = paused_until
    ? `until ${paused_until.toISOString().slice(0, 19).replace('T', ' ')} UTC`
    : 'until a probe succeeds or it is resumed'
  return `${end} (${reason})`
}

import type { Command } from 'commander'
import { migrate } from '../client/migrate.ts'
import { loadConfig } from '../config.ts'
import { type ClockworkState, clockworkSchema } from '../db/clockwork-tables.ts'
import { clockworkStatus, migrationStatus } from '../db/migrate.ts'
import { operationData } from '../operations/data/index.ts'
import { dataCheckSql } from '../operations/data-check.ts'
import { count } from './table.ts'

export function migrateCommand(program: Command): void {
  program
    .command('migrate')
    .description('bring the tables up to date, creating them where there are none')
    .option('--status', 'say what would be applied, and change nothing')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nWith --status the exit code is 1 while something is to be applied.')
    .action(async (_options, command: Command) => {
      const flags = command.optsWithGlobals()
      const { databaseUrl, schema } = loadConfig(flags, undefined, ['databaseUrl'])
      const options = { databaseUrl, schema }
      if (flags.status) await showStatus(options, flags.json)
      else await apply(options, flags.json)
    })
}

type Options = { databaseUrl: string; schema: string }

async function apply(options: Options, json: boolean): Promise<void> {
  const { applied, already, generatedChanged, clockwork } = await migrate(options)
  if (json) return console.log(JSON.stringify({ applied, already, generatedChanged, clockwork }))
  for (const name of applied) console.log(`applied ${name}`)
  if (generatedChanged) console.log('wrote the check of data anew')
  const done = applied.length + already.length
  console.log(`Schema "${options.schema}" is up to date (${count(done, 'migration')}).`)
  if (clockwork === 'denied') console.error(noClockwork(clockworkSchema(options.schema)))
}

async function showStatus(options: Options, json: boolean): Promise<void> {
  const { applied, pending, generated } = await migrationStatus({
    ...options,
    generatedSql: dataCheckSql(operationData),
  })
  const clockwork = await clockworkStatus(options)
  const current = pending.length === 0 && generated === 'current' && !isDue(clockwork)
  process.exitCode = current ? 0 : 1
  if (json) return console.log(JSON.stringify({ current, applied, pending, generated, clockwork }))
  for (const name of applied) console.log(`applied  ${name}`)
  for (const name of pending) console.log(`pending  ${name}`)
  if (pending.length === 0 && generated !== 'current') {
    console.log('pending  the check of data is outdated')
  }
  if (isDue(clockwork)) console.log(`pending  the tables of pg-boss are ${clockwork}`)
  console.log(
    current ? `Schema "${options.schema}" is up to date.` : 'Run "inturn migrate" to apply.',
  )
}

const isDue = (clockwork: ClockworkState) => clockwork === 'missing' || clockwork === 'outdated'

const noClockwork = (name: string) =>
  `The tables of pg-boss were not made or changed, because this role may not: nothing expires by itself.
Have somebody run: CREATE SCHEMA "${name}" AUTHORIZATION <this role>; then run "inturn migrate" again.`

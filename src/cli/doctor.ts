import type { Command } from 'commander'
import type { Config } from '../config.ts'
import { InturnError } from '../errors.ts'
import { defaultLimits, examine, type Finding, type Question } from '../store/doctor/examine.ts'
import { readThreadOperations, readThreadState } from '../store/thread-views.ts'
import { type OpenDatabase, withDatabase } from './database.ts'
import { type Checkup, formatCheckup, forPrograms, type Repair } from './doctor-text.ts'
import { settingOption } from './setting-option.ts'

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check what must hold in the database, whatever has happened')
    .option('--fix', 'repair what is safe to repair, say what was done, and check again')
    .option('--thread <id>', 'look at one thread only')
    .option('--json', 'print JSON')
    .addOption(settingOption('sweepMs'))
    .addHelpText('after', notes)
    .action((options: DoctorOptions, command: Command) =>
      withDatabase(command, async (database) => {
        const checkup = await checkUp(database, options)
        console.log(options.json ? JSON.stringify(forPrograms(checkup)) : formatCheckup(checkup))
        if (checkup.findings.some(({ broken }) => broken > 0)) process.exitCode = 1
      }),
    )
}

type DoctorOptions = { fix?: boolean; thread?: string; json?: boolean }

const notes = `
Safe to run at any time: it locks nothing, and without --fix it changes nothing.
With --fix, dispatchers that seem dead are watched for as long as their lease before their claims are given back.
The exit code is 1 when something is broken, after --fix when something still is.`

async function checkUp(database: OpenDatabase, { fix, thread }: DoctorOptions): Promise<Checkup> {
  const { pool, config } = database
  const question = { ...limitsOf(config), threadId: thread }
  if (thread !== undefined) await requireThread(database, thread)
  const startedAt = performance.now()
  let findings = await examine(pool, question)
  const repairs = fix ? await repair(database, findings) : []
  if (repairs.length > 0) findings = await examine(pool, question)
  return { findings, repairs, tookMs: Math.round(performance.now() - startedAt) }
}

async function repair({ pool }: OpenDatabase, findings: readonly Finding[]): Promise<Repair[]> {
  const repairs: Repair[] = []
  for (const { invariant, broken, offenders } of findings) {
    if (broken === 0 || !invariant.fix) continue
    repairs.push({ name: invariant.name, done: await invariant.fix(pool, offenders) })
  }
  return repairs
}

/** What is momentary may last for a sweep, and a second while the database is busy. */
const limitsOf = ({ sweepMs }: Config): Omit<Question, 'threadId'> => ({
  ...defaultLimits,
  graceMs: 2 * sweepMs + 1_000,
})

/** A mistyped id would be found in the best of health. */
async function requireThread(database: OpenDatabase, threadId: string): Promise<void> {
  if ((await readThreadOperations(database, threadId, 1)).length > 0) return
  if ((await readThreadState(database, threadId)) !== null) return
  throw new InturnError('thread_unknown', `There is nothing of thread ${threadId}.`, {
    hint: '"inturn status" lists the threads there are.',
  })
}

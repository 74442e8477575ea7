import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Database } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import { listDeadLetters } from '../store/dead-letters.ts'
import { listLanes } from '../store/lane-states.ts'
import { listDispatchers, listThreads, listWaiting } from '../store/reports.ts'
import { readTimeline } from '../store/thread-views.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { formatDeadLetters, formatStatus, type Status } from './status-text.ts'

export function statusCommand(program: Command): void {
  program
    .command('status')
    .description('show what is served and what waits, or the story of one thread')
    .argument('[thread]', 'id of a thread')
    .option('--watch', 'go on showing it, every second')
    .option('--limit <n>', 'most lines of a list', wholeNumber, 20)
    .option('--failed', 'list what failed for good, newest first, with the end of each attempt')
    .option('--healthy', 'print nothing; the exit code is 1 unless a dispatcher of this host lives')
    .option('--json', 'print JSON, with --watch one line each time')
    .addHelpText(
      'after',
      '\nThe same by SQL: select * from thread_states, waiting_operations, thread_timeline, dead_letters.',
    )
    .action((threadId: string | undefined, options, command: Command) =>
      withDatabase(command, async (database) => {
        if (options.healthy) return requireLife(database)
        for (;;) {
          const look = options.failed ? lookAtFailed : lookAtLines
          print(await look(database, threadId, options.limit), options)
          if (!options.watch) return
          await sleep(1000)
        }
      }),
    )
}

/** What is shown: for programs, and for people. */
type Picture = { value: unknown; text: string }

async function lookAtFailed(
  database: Database,
  threadId: string | undefined,
  limit: number,
): Promise<Picture> {
  const value = await listDeadLetters(database, { threadId, limit })
  return { value, text: formatDeadLetters(value) }
}

async function lookAtLines(
  database: Database,
  threadId: string | undefined,
  limit: number,
): Promise<Picture> {
  const value = await readStatus(database, threadId, limit)
  if (threadId !== undefined && isUnknown(value)) throw unknownThread(threadId)
  return { value, text: formatStatus(value) }
}

async function readStatus(
  database: Database,
  threadId: string | undefined,
  limit: number,
): Promise<Status> {
  return {
    dispatchers: await listDispatchers(database),
    threads: await listThreads(database, { threadId, limit }),
    waiting: await listWaiting(database, { threadId, limit }),
    resting: (await listLanes(database)).filter(({ state }) => state === 'resting'),
    ...(threadId !== undefined && {
      timeline: (await readTimeline(database, threadId)).slice(-limit),
    }),
  }
}

function print(
  { value, text }: Picture,
  { json, watch }: { json?: boolean; watch?: boolean },
): void {
  // Clears a terminal, so that the new picture stands in the place of the old one.
  const clear = watch && process.stdout.isTTY ? '\x1b[H\x1b[2J' : ''
  console.log(json ? JSON.stringify(value) : `${clear}${text}`)
}

async function requireLife(database: Database): Promise<void> {
  const here = (await listDispatchers(database)).filter(({ host }) => host === hostname())
  if (here.some(({ silent_ms, lease_ms }) => silent_ms < lease_ms)) return
  throw new InturnError(
    'no_dispatcher',
    `No dispatcher of this host (${hostname()}) has shown a sign of life within its lease.`,
  )
}

const isUnknown = ({ threads, timeline }: Status) => threads.length === 0 && timeline?.length === 0

const unknownThread = (threadId: string) =>
  new InturnError('thread_unknown', `Nothing was ever inserted for thread ${threadId}.`, {
    hint: '"inturn status" lists the threads there are.',
  })

import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Database } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import { listLanes } from '../store/lane-states.ts'
import { listDispatchers, listThreads, listWaiting } from '../store/reports.ts'
import { readTimeline } from '../store/thread-views.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { formatStatus, type Status } from './status-text.ts'

export function statusCommand(program: Command): void {
  program
    .command('status')
    .description('show what is served and what waits, or the story of one thread')
    .argument('[thread]', 'id of a thread')
    .option('--watch', 'go on showing it, every second')
    .option('--limit <n>', 'most lines of a list', wholeNumber, 20)
    .option('--healthy', 'print nothing; the exit code is 1 unless a dispatcher of this host lives')
    .option('--json', 'print JSON, with --watch one line each time')
    .addHelpText(
      'after',
      '\nThe same by SQL: select * from thread_states, waiting_operations, thread_timeline.',
    )
    .action((threadId: string | undefined, options, command: Command) =>
      withDatabase(command, async (database) => {
        if (options.healthy) return requireLife(database)
        for (;;) {
          const status = await readStatus(database, threadId, options.limit)
          if (threadId !== undefined && isUnknown(status)) throw unknownThread(threadId)
          print(status, options)
          if (!options.watch) return
          await sleep(1000)
        }
      }),
    )
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

function print(status: Status, { json, watch }: { json?: boolean; watch?: boolean }): void {
  // Clears a terminal, so that the new picture stands in the place of the old one.
  const clear = watch && process.stdout.isTTY ? '\x1b[H\x1b[2J' : ''
  console.log(json ? JSON.stringify(status) : `${clear}${formatStatus(status)}`)
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

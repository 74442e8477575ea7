import type { Command } from 'commander'
import { type Archive, type ArchiveFilter, listArchives } from '../store/archive-reading.ts'
import { withDatabase } from './database.ts'
import { wholeNumber } from './emulator.ts'
import { formatTable } from './table.ts'

export function archivesCommand(program: Command): void {
  program
    .command('archives')
    .description('list the archives of conversations, the newest first')
    .argument('[thread]', 'id of a thread; default: all')
    .option('--user <id>', 'only those of this user')
    .option('--before <archive>', 'only those with a lower number', wholeNumber)
    .option('--limit <n>', 'most of them', wholeNumber, 20)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
The same by SQL: select * from thread_archives order by id desc.
To write one: inturn enqueue <thread> archive_thread. To read one: inturn export <archive>.`,
    )
    .action((thread: string | undefined, options: Options, command: Command) =>
      withDatabase(command, async (database) => {
        const archives = await listArchives(database, { thread, ...options })
        console.log(options.json ? JSON.stringify(archives) : formatArchives(archives))
      }),
    )
}

type Options = Omit<ArchiveFilter, 'thread'> & { json?: boolean }

function formatArchives(archives: readonly Archive[]): string {
  if (archives.length === 0) return 'There are none.'
  const titles = ['archive', 'thread', 'gen', 'items', 'messages', 'runs', 'archived', 'reason']
  const rows = archives.map((archive) => [
    archive.id,
    archive.thread_id,
    archive.generation,
    archive.items,
    archive.messages,
    archive.runs,
    archive.archived_at.toISOString(),
    archive.reason,
  ])
  return formatTable(titles, rows)
}

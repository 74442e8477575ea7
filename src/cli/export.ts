import { createWriteStream, existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { itemsOf, requireArchive, runsOf } from '../client/read-archive.ts'
import type { Database } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import { type Archive, archivesOfGenerations } from '../store/archive-reading.ts'
import { withDatabase } from './database.ts'
import { type ExportProgress, exportProgress } from './export-progress.ts'
import { Interrupted, UsageError } from './failure.ts'
import { exitCodeOfSignal, untilSignal } from './signals.ts'

type Options = { thread?: string; file?: string; force?: boolean; progress?: boolean }

export function exportCommand(program: Command): void {
  program
    .command('export')
    .description('write an archive as lines of JSON')
    .argument('[archive]', 'its number, as `inturn archives` shows it', archiveNumber)
    .option(
      '--thread <id>',
      'instead of a number: for each provider thread of this thread its newest archive',
    )
    .option('--file <path>', 'where to; it appears when all is written. Default: standard output')
    .option('--force', 'replace the file if there is one')
    .option('--progress', 'tell on standard error how far it is, also where that is no terminal')
    .addHelpText('after', examples)
    .action((id: number | undefined, options: Options, command: Command) => {
      check(id, options)
      return withDatabase(command, async (database) => {
        const archives = await chosen(database, id, options.thread)
        const progress = exportProgress(archives, options.progress ?? false)
        await write(linesOf(database, archives, progress), options.file).finally(progress.end)
      })
    })
}

const examples = `
Each line has a "record": first "archive", then an "item" for all that was said, in order, and a
"run" for each run that is known.

Examples:
  $ inturn export 7 | jq -r 'select(.record == "item") | "\\(.role): \\(.text)"'
  $ inturn export --thread user:42 --file user-42.jsonl`

function archiveNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Write the number of an archive.')
  return Number(text)
}

function check(id: number | undefined, { thread, file, force }: Options): void {
  if ((id === undefined) === (thread === undefined))
    throw new UsageError('Write either the number of an archive or --thread.')
  if (file === undefined && force) throw new UsageError('--force is only for --file.')
  if (file !== undefined && !force && existsSync(file))
    throw new UsageError(
      `${file} is there already.`,
      'Write another --file, or --force to replace it.',
    )
}

async function chosen(database: Database, id: number | undefined, thread = ''): Promise<Archive[]> {
  if (id !== undefined) return [await requireArchive(database, id)]
  const archives = await archivesOfGenerations(database, thread)
  if (archives.length > 0) return archives
  throw new InturnError('archive_not_found', `Thread ${thread} has no archive.`, {
    hint: `To write one: inturn enqueue ${JSON.stringify(thread)} archive_thread --wait`,
  })
}

async function* linesOf(
  database: Database,
  archives: readonly Archive[],
  progress: ExportProgress,
): AsyncGenerator<string> {
  for (const archive of archives) {
    yield line('archive', archive)
    for await (const item of itemsOf(database, archive)) {
      yield line('item', item)
      progress.wrote()
    }
    for await (const run of runsOf(database, archive)) yield line('run', run)
  }
}

const line = (record: string, row: object) => `${JSON.stringify({ record, ...row })}\n`

/** Never more in memory than the reader takes. A file is complete or not there. */
async function write(lines: AsyncIterable<string>, file: string | undefined): Promise<void> {
  const interrupted = new AbortController()
  void untilSignal().then((signal) => interrupted.abort(new Interrupted(exitCodeOfSignal(signal))))
  const { signal } = interrupted
  const partial = `${file}.${process.pid}.partial`
  try {
    if (file === undefined) return await pipeline(lines, process.stdout, { signal, end: false })
    await pipeline(lines, createWriteStream(partial, { flush: true }), { signal })
    await rename(partial, file)
  } catch (error) {
    if (file !== undefined) await rm(partial, { force: true })
    throw signal.aborted ? signal.reason : explained(error, file)
  }
}

function explained(error: unknown, file: string | undefined): unknown {
  const { syscall, message } = error as NodeJS.ErrnoException
  if (file === undefined || syscall === undefined || error instanceof InturnError) return error
  return new InturnError('file_not_written', `${file} cannot be written: ${message}`, {
    hint: 'Name a file in a folder that is there and that you may write to.',
    cause: error,
  })
}

import type { Command } from 'commander'
import { loadConfig } from '../config.ts'
import { reportText, succeeded } from '../demo/report.ts'
import { runStressTest } from '../demo/stress-test.ts'
import { wholeNumber } from './emulator.ts'
import { Interrupted } from './failure.ts'
import { progressLine } from './progress.ts'
import { exitCodeOfSignal, untilSignal } from './signals.ts'

export function demoCommand(program: Command): void {
  program
    .command('demo')
    .description('the stress test: many workers on one thread, without inturn and with it')
    .option('--workers <n>', 'workers at once', wholeNumber, 5)
    .option('--iterations <n>', 'messages of each worker', wholeNumber, 10)
    .option('--run-ms <ms>', 'how long a run takes at the provider', wholeNumber, 150)
    .option('--json', 'print JSON')
    .addHelpText('after', notes)
    .action(async ({ workers, iterations, runMs, json }, command: Command) => {
      const { databaseUrl } = loadConfig(command.optsWithGlobals())
      const abort = new AbortController()
      void untilSignal().then((signal) => abort.abort(new Interrupted(exitCodeOfSignal(signal))))
      const progress = progressLine()
      const results = await runStressTest({
        databaseUrl,
        workers,
        iterations,
        runMs,
        signal: abort.signal,
        onProgress: progress.show,
        onComplaint: (line) => abort.signal.aborted || progress.say(line),
      })
        .catch((error) => {
          throw abort.signal.aborted ? abort.signal.reason : error
        })
        .finally(progress.end)
      console.log(json ? JSON.stringify(results) : reportText(results, { workers, iterations }))
      if (!results.every(succeeded)) process.exitCode = 1
    })
}

const notes = `
Needs nothing: it starts a PostgreSQL and both providers' emulators, and removes them afterwards.
With DATABASE_URL, it creates and drops a database of its own on that server.
The exit code is 1 unless everything got through with inturn, without a conflict and in order.`

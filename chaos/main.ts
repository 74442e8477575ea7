import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { exitCodeOfSignal, untilSignal } from '../src/cli/signals.ts'
import { reportText } from './report.ts'
import { runChaos } from './run.ts'
import { short, standard } from './scale.ts'

const help = `npm run chaos -- [--seconds 600] [--seed N] [--short] [--keep]

Serves mixed operations on many threads from an emulator while dispatchers are killed, stopped and
restarted, the database crashes, rows are held and the provider fails in every way it knows. Then all
is calm, and the emulator's own history is compared with what was promised.

  --seconds N  how long it goes on, 10 to 86400; draining the lines takes a few minutes more
  --seed N     the same seed gives the same plan; by default a random one
  --short      everything some ten times faster: short deadlines, leases and lags. Without it the
               dispatchers have no settings, so that the defaults are proved
  --keep       keep the database and the dispatchers' logs, also where nothing is wrong

Ends with 1 where anything was lost, doubled or out of order, and keeps the database then.`

class Usage extends Error {}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        seconds: { type: 'string', default: '600' },
        seed: { type: 'string', default: String(randomInt(1_000_000)) },
        short: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    return {
      ...values,
      seconds: wholeNumber('--seconds', values.seconds, 10, 86_400),
      seed: wholeNumber('--seed', values.seed, 0, 1_000_000_000),
    }
  } catch (error) {
    throw new Usage((error as Error).message)
  }
}

function wholeNumber(flag: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= least && value <= most) return value
  throw new Usage(`${flag} ${text}: write a whole number from ${least} to ${most}`)
}

async function main(): Promise<number> {
  const { seconds, seed, keep, help: wanted, short: isShort } = options()
  if (wanted) {
    console.log(help)
    return 0
  }
  console.log(`seed ${seed}`)
  const calledOff = new AbortController()
  void untilSignal().then((signal) => calledOff.abort(signal))
  const { signal } = calledOff
  try {
    const scale = isShort ? short(seconds) : standard(seconds)
    const onProgress = (text: string) => console.log(text)
    const result = await runChaos({ seed, seconds, scale, keep, signal, onProgress })
    console.log(`\n${reportText(result)}`)
    return result.offenders.length === 0 ? 0 : 1
  } catch (error) {
    if (!signal.aborted) throw error
    console.error(`called off by ${signal.reason}`)
    return exitCodeOfSignal(signal.reason)
  }
}

process.exitCode = await main().catch((error: Error) => {
  if (!(error instanceof Usage)) throw error
  console.error(`error: ${error.message}\nhint: npm run chaos -- --help`)
  return 2
})

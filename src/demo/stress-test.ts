import { migrate } from '../client/migrate.ts'
import { withTemporaryDatabase } from '../db/database.ts'
import { type Emulator, startEmulator } from '../emulator/index.ts'
import type { ProviderName } from '../model/thread.ts'
import { type DispatcherProcess, startDispatcherProcess } from './dispatcher-process.ts'
import type { Half } from './half.ts'
import { withInturn } from './with-inturn.ts'
import { withoutInturn } from './without-inturn.ts'

export type StressTestOptions = {
  /** Server for the temporary database; without one, an embedded server is started. */
  databaseUrl: string | undefined
  workers: number
  iterations: number
  /** How long a run takes at the provider, about, in milliseconds. */
  runMs: number
  /** Ends it early; everything is cleaned up all the same. */
  signal: AbortSignal
  onProgress: (progress: Progress) => void
  /** Gets each warning and error that a dispatcher logs. */
  onComplaint: (line: string) => void
}

export type Progress =
  | { step: 'preparing' }
  | { step: 'half'; provider: ProviderName; inturn: boolean; done: number; of: number }

export type ProviderResult = { provider: ProviderName; without: Half; with: Half }

const dispatcherCount = 2
const providers: readonly ProviderName[] = ['assistants', 'responses']

/** Many workers on one shared thread, first without inturn and then with it, on either provider. */
export async function runStressTest(options: StressTestOptions): Promise<ProviderResult[]> {
  options.onProgress({ step: 'preparing' })
  return withTemporaryDatabase(options.databaseUrl, async (databaseUrl) => {
    options.signal.throwIfAborted()
    await migrate({ databaseUrl })
    return withEmulators(options.runMs, (emulators) =>
      withDispatchers(databaseUrl, emulators, options, async () => {
        const results: ProviderResult[] = []
        for (const provider of providers) {
          results.push(await runProvider(provider, emulators[provider], databaseUrl, options))
        }
        return results
      }),
    )
  })
}

type Emulators = Record<ProviderName, { without: Emulator; with: Emulator }>

async function runProvider(
  provider: ProviderName,
  emulators: Emulators[ProviderName],
  databaseUrl: string,
  options: StressTestOptions,
): Promise<ProviderResult> {
  const of = options.workers * options.iterations
  const report = (inturn: boolean) => (done: number) =>
    options.onProgress({ step: 'half', provider, inturn, done, of })
  const half = { ...options, provider, databaseUrl }
  return {
    provider,
    without: await withoutInturn({
      ...half,
      emulator: emulators.without,
      onProgress: report(false),
    }),
    with: await withInturn({ ...half, emulator: emulators.with, onProgress: report(true) }),
  }
}

async function withEmulators<T>(
  runMs: number,
  work: (emulators: Emulators) => Promise<T>,
): Promise<T> {
  const started: Emulator[] = []
  const start = async () => {
    // The answers have some six words.
    const latency = { queuedMs: runMs * 0.1, thinkMs: runMs * 0.6, perTokenMs: runMs * 0.05 }
    const emulator = await startEmulator({ latency })
    started.push(emulator)
    return emulator
  }
  try {
    return await work({
      assistants: { without: await start(), with: await start() },
      responses: { without: await start(), with: await start() },
    })
  } finally {
    await Promise.all(started.map((emulator) => emulator.close()))
  }
}

async function withDispatchers<T>(
  databaseUrl: string,
  emulators: Emulators,
  { signal, onComplaint }: StressTestOptions,
  work: () => Promise<T>,
): Promise<T> {
  const running: DispatcherProcess[] = []
  const start = async () => {
    const settings = {
      databaseUrl,
      openaiApiKey: 'demo',
      openaiBaseUrl: emulators.responses.with.url,
      assistantsApiKey: 'demo',
      assistantsBaseUrl: emulators.assistants.with.url,
      callTimeoutMs: '5000',
      settleMs: '0',
      assistantsSettleMs: '0',
    }
    const dispatcher = await startDispatcherProcess(settings, onComplaint)
    running.push(dispatcher)
  }
  try {
    const starts = await Promise.allSettled(Array.from({ length: dispatcherCount }, start))
    const failed = starts.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
    signal.throwIfAborted()
    return await work()
  } finally {
    await Promise.all(
      running.map((dispatcher) => dispatcher.stop(signal.aborted ? 'SIGKILL' : 'SIGTERM')),
    )
  }
}

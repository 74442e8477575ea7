import type pg from 'pg'
import pino from 'pino'
import { listen } from '../../src/db/listen.ts'
import { type Claim, Dispatcher } from '../../src/dispatcher/dispatcher.ts'
import type { Outcome } from '../../src/model/outcome.ts'

/** What an operation's message asks its end to be. */
const ends: Record<string, Outcome> = {
  fail: {
    status: 'failed',
    error: { code: 'quota', message: 'No money.', provider_status: 429, request_id: 'req_1' },
  },
  'cancel the run': {
    status: 'cancelled',
    error: { code: 'run_cancelled', message: 'Somebody else cancelled the run.' },
    result: { text: 'half an ans' },
  },
}

/** A real dispatcher whose operations end as their message says: `await using line = await serve(pool, url)`. */
export async function serve(
  pool: pg.Pool,
  url: string,
  before: (claim: Claim) => Promise<void> = async () => {},
): Promise<AsyncDisposable> {
  const dispatcher = new Dispatcher({
    pool,
    execute: async (claim) => {
      await before(claim)
      const { message } = claim.operation.data as { message?: string }
      return (
        ends[String(message)] ?? {
          status: 'completed',
          result: { text: `You said: ${message}`, message_id: `msg_${claim.operation.id}` },
        }
      )
    },
    concurrency: 50,
    providers: ['responses'],
    defaultProvider: 'responses',
    pollMs: 100,
    heartbeatMs: 1000,
    graceMs: 5_000,
    leaseMs: 15_000,
    sweepMs: 200,
    shutdownMs: 1000,
    log: pino({ level: 'silent' }),
  })
  await dispatcher.start()
  const listener = listen({
    databaseUrl: url,
    channels: ['inturn_wake'],
    onNotify: () => dispatcher.wake(),
    onConnected: () => dispatcher.wake(),
  })
  return {
    async [Symbol.asyncDispose]() {
      await dispatcher.stop()
      await listener.close()
    },
  }
}

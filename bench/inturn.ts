import pino from 'pino'
import { listen } from '../src/db/listen.ts'
import { Dispatcher } from '../src/dispatcher/dispatcher.ts'
import type { Contender } from './contender.ts'

/** inturn itself, with everything on: validation at the INSERT, guards, ledger, leases, sweeps. */
export const inturn: Contender = {
  name: 'inturn',
  insertOne: `insert into thread_operations (thread_id, operation, data) values ($1, 'add_message', $2)`,
  insertMany: `insert into thread_operations (thread_id, operation, data)
               select t, 'add_message', d::jsonb from unnest($1::text[], $2::text[]) as r (t, d)`,
  async drain(pool, url, { concurrency, handle }) {
    const dispatcher = new Dispatcher({
      pool,
      execute: async ({ operation }) => {
        await handle({ thread: operation.thread_id, data: operation.data as { message: string } })
        return { status: 'completed', result: {} }
      },
      concurrency,
      providers: ['responses'],
      defaultProvider: 'responses',
      pollMs: 250,
      heartbeatMs: 250,
      graceMs: 1_400,
      leaseMs: 14_000,
      sweepMs: 500,
      shutdownMs: 5000,
      log: pino({ level: 'warn' }, pino.destination(2)),
    })
    await dispatcher.start()
    const listener = listen({
      databaseUrl: url,
      channels: ['inturn_wake'],
      onNotify: () => dispatcher.wake(),
      onConnected: () => dispatcher.wake(),
    })
    return async () => {
      await dispatcher.stop()
      await listener.close()
    }
  },
}

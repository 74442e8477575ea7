import { parseArgs } from 'node:util'
import type pg from 'pg'
import { createTemporaryDatabase } from '../src/db/database.ts'
import { startEmbedded } from '../src/db/embedded.ts'
import { migrate } from '../src/db/migrate.ts'
import { createPool } from '../src/db/pool.ts'
import { sweep } from '../src/lifecycle/sweep.ts'
import { operationData } from '../src/operations/data/index.ts'
import { dataCheckSql } from '../src/operations/data-check.ts'
import { inturn } from './inturn.ts'

// How large the tables become under a steady load, with and without retention.

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    retention: { type: 'string', default: '5 seconds' },
    rate: { type: 'string', default: '500' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log('npm run bench:retention -- [--seconds 60] [--retention "5 seconds"] [--rate 500]')
  process.exit(0)
}
const seconds = Number(flags.seconds)
const rate = Number(flags.rate)
if (!(seconds >= 10) || !(rate >= 1)) {
  console.error('--seconds must be at least 10 and --rate at least 1')
  process.exit(2)
}

/** Inserts so many operations a second, serves them, and sweeps twice a second; tells the sizes ten times. */
async function sizesUnderLoad(url: string, retention: string | null): Promise<Size[]> {
  const pool = createPool(url, { max: 30 })
  const sizes: Size[] = []
  try {
    await migrate({ databaseUrl: url, generatedSql: dataCheckSql(operationData) })
    // Reuses within the short time of a measurement what autovacuum would within a minute.
    await pool.query(
      `insert into thread_policies (name, pattern, operation_retention) values ('p', 'any', $1)`,
      [retention],
    )
    const stop = await inturn.drain(pool, url, { concurrency: 50, handle: () => {} })
    const startedAt = performance.now()
    const passed = () => (performance.now() - startedAt) / 1000
    let inserted = 0
    while (passed() < seconds) {
      const due = Math.floor(passed() * rate) - inserted
      if (due > 0) await insert(pool, inserted, due)
      inserted += Math.max(due, 0)
      await sweep({ pool })
      if (passed() >= ((sizes.length + 1) * seconds) / 10) {
        await pool.query('vacuum thread_operations, operation_events, threads')
        sizes.push(await measure(pool, inserted))
      }
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
    sizes.push(await measure(pool, inserted))
    await stop()
  } finally {
    await pool.end()
  }
  return sizes
}

type Size = { inserted: number; rows: number; table: number; indexes: number; ledger: number }

const insert = (pool: pg.Pool, from: number, count: number) =>
  pool.query(inturn.insertMany, [
    Array.from({ length: count }, (_, i) => `t${(from + i) % 1000}`),
    Array.from({ length: count }, () => JSON.stringify({ message: 'Hi' })),
  ])

async function measure(pool: pg.Pool, inserted: number): Promise<Size> {
  const { rows } = await pool.query(
    `select (select count(*) from thread_operations) as rows, pg_table_size('thread_operations') as "table",
            pg_indexes_size('thread_operations') as indexes, pg_total_relation_size('operation_events') as ledger`,
  )
  return { inserted, ...rows[0] }
}

const server = process.env.DATABASE_URL
  ? { url: process.env.DATABASE_URL, stop: async () => {} }
  : await startEmbedded({ settings: { shared_buffers: '256MB', max_connections: '100' } })
try {
  for (const retention of [null, flags.retention]) {
    const database = await createTemporaryDatabase(server.url)
    try {
      console.log(
        `\n${retention === null ? 'kept for ever' : `kept for ${retention}`}, ${rate} operations a second (MB)`,
      )
      console.log(
        ['inserted', 'rows', 'table', 'indexes', 'ledger']
          .map((title) => title.padStart(10))
          .join(''),
      )
      for (const { inserted, rows, table, indexes, ledger } of await sizesUnderLoad(
        database.url,
        retention,
      )) {
        const megabytes = [table, indexes, ledger].map((bytes) => (bytes / 1e6).toFixed(1))
        console.log(
          [inserted, rows, ...megabytes].map((cell) => String(cell).padStart(10)).join(''),
        )
      }
    } finally {
      await database.drop()
    }
  }
} finally {
  await server.stop()
}

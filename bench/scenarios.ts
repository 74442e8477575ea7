import type pg from 'pg'
import type { Contender, Started } from './contender.ts'

export type Figure = { value: number; unit: string }
export type Scenario = {
  name: string
  title: string
  run(contender: Contender, pool: pg.Pool, url: string): Promise<Record<string, Figure>>
}

const data = { message: 'Hi' }

/** `count` operations, round-robin over `threads` threads, inserted in statements of 10,000 rows. */
async function seed(
  contender: Contender,
  pool: pg.Pool,
  count: number,
  threads: number,
  prefix = 't',
) {
  for (let from = 0; from < count; from += 10_000) {
    const rows = Array.from({ length: Math.min(10_000, count - from) }, (_, i) => from + i)
    await pool.query(contender.insertMany, [
      rows.map((i) => `${prefix}${i % threads}`),
      rows.map((i) => JSON.stringify({ message: String(Math.floor(i / threads)) })),
    ])
  }
}

/** Drains until `count` operations for which `counts` says yes were started; checks the order per thread. */
async function drain(
  contender: Contender,
  pool: pg.Pool,
  url: string,
  options: {
    count: number
    concurrency: number
    handlerMs?: (started: Started) => number
    counts?: (started: Started) => boolean
  },
): Promise<{ seconds: number; sinceStart: number }> {
  const lastOfThread = new Map<string, number>()
  const finished = Promise.withResolvers<void>()
  const startedAt = performance.now()
  let firstAt = 0
  let left = options.count
  const stop = await contender.drain(pool, url, {
    concurrency: options.concurrency,
    handle: (started) => {
      firstAt ||= performance.now()
      const nth = Number(started.data.message)
      if (nth !== (lastOfThread.get(started.thread) ?? -1) + 1) {
        finished.reject(new Error(`${contender.name} broke the order of ${started.thread}: ${nth}`))
      }
      lastOfThread.set(started.thread, nth)
      const done = () => {
        if (options.counts?.(started) ?? true) if (--left === 0) finished.resolve()
      }
      const ms = options.handlerMs?.(started) ?? 0
      if (ms === 0) return done()
      return new Promise<void>((resolve) => setTimeout(resolve, ms)).then(done)
    },
  })
  try {
    await finished.promise
    const now = performance.now()
    return { seconds: (now - firstAt) / 1000, sinceStart: (now - startedAt) / 1000 }
  } finally {
    await stop()
  }
}

const perSecond = (value: number): Figure => ({ value, unit: '/s' })

export const scenarios: Scenario[] = [
  {
    name: 'A',
    title: 'insert, 10 connections, one row each',
    async run(contender, pool) {
      const total = 20_000
      let next = 0
      const startedAt = performance.now()
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          const client = await pool.connect()
          while (next < total)
            await client.query({
              name: 'one',
              text: contender.insertOne,
              values: [`t${next++ % 1000}`, data],
            })
          client.release()
        }),
      )
      return { 'rows/s': perSecond(total / ((performance.now() - startedAt) / 1000)) }
    },
  },
  ...[1000, 1].map((threads) => ({
    name: threads === 1 ? 'A1' : 'A1000',
    title: `bulk insert of 10,000 rows into ${threads.toLocaleString('en')} thread${threads === 1 ? '' : 's'}`,
    async run(contender: Contender, pool: pg.Pool) {
      const startedAt = performance.now()
      await seed(contender, pool, 10_000, threads)
      return { 'rows/s': perSecond(10_000 / ((performance.now() - startedAt) / 1000)) }
    },
  })),
  {
    name: 'B',
    title: '20,000 operations over 1,000 threads',
    async run(contender, pool, url) {
      await seed(contender, pool, 20_000, 1000)
      await pool.query('vacuum analyze thread_operations')
      const { seconds } = await drain(contender, pool, url, { count: 20_000, concurrency: 500 })
      return { 'ops/s': perSecond(20_000 / seconds) }
    },
  },
  {
    name: 'C',
    title: 'one hot thread, 2,000 operations',
    async run(contender, pool, url) {
      await seed(contender, pool, 2000, 1)
      await pool.query('vacuum analyze thread_operations')
      const { seconds } = await drain(contender, pool, url, { count: 2000, concurrency: 20 })
      return { 'ops/s': perSecond(2000 / seconds) }
    },
  },
  {
    name: 'D',
    title: 'INSERT to start, idle',
    async run(contender, pool, url) {
      const samples: number[] = []
      let insertedAt = 0
      let arrived = Promise.withResolvers<void>()
      const stop = await contender.drain(pool, url, {
        concurrency: 20,
        handle: () => {
          samples.push(performance.now() - insertedAt)
          arrived.resolve()
        },
      })
      for (let i = 0; i < 220; i++) {
        arrived = Promise.withResolvers<void>()
        await new Promise((resolve) => setTimeout(resolve, 15 + Math.random() * 10))
        insertedAt = performance.now()
        await pool.query(contender.insertOne, [`t${i}`, { message: '0' }])
        await arrived.promise
      }
      await stop()
      const sorted = samples.slice(20).sort((a, b) => a - b)
      const at = (q: number): Figure => ({
        value: sorted[Math.floor(sorted.length * q)] as number,
        unit: 'ms',
      })
      return { 'p50 ms': at(0.5), 'p99 ms': at(0.99) }
    },
  },
  ...[10_000, 1_000_000].map((backlog) => ({
    name: backlog === 10_000 ? 'E1-10k' : 'E1',
    title: `2,000 operations over 200 threads behind ${backlog.toLocaleString('en')} in one thread`,
    async run(contender: Contender, pool: pg.Pool, url: string) {
      await seed(contender, pool, backlog, 1, 'hot')
      await seed(contender, pool, 2000, 200)
      await pool.query('vacuum analyze thread_operations')
      const isHot = ({ thread }: Started) => thread === 'hot0'
      const { sinceStart } = await drain(contender, pool, url, {
        count: 2000,
        concurrency: 200,
        handlerMs: (started) => (isHot(started) ? 5 : 0),
        counts: (started) => !isHot(started),
      })
      return { seconds: { value: sinceStart, unit: 's' } }
    },
  })),
  ...[10_000, 1_000_000].map((backlog) => ({
    name: backlog === 10_000 ? 'E2-10k' : 'E2',
    title: `first ${backlog === 10_000 ? '10,000' : '20,000'} of ${backlog.toLocaleString('en')} over ${(backlog / 10).toLocaleString('en')} threads`,
    async run(contender: Contender, pool: pg.Pool, url: string) {
      const count = Math.min(backlog, 20_000)
      await seed(contender, pool, backlog, backlog / 10)
      await pool.query('vacuum analyze thread_operations')
      const { seconds } = await drain(contender, pool, url, { count, concurrency: 500 })
      return { 'ops/s': perSecond(count / seconds) }
    },
  })),
  {
    name: 'F',
    title: '1,000 operations of 50 ms over 100 threads, 50 at once',
    async run(contender, pool, url) {
      await seed(contender, pool, 1000, 100)
      const { seconds } = await drain(contender, pool, url, {
        count: 1000,
        concurrency: 50,
        handlerMs: () => 50,
      })
      return { 'ops/s': perSecond(1000 / seconds) }
    },
  },
]

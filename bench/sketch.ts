import { EventEmitter, once } from 'node:events'
import pg from 'pg'
import type { Contender } from './contender.ts'

/**
 * The measured sketch of the design that inturn grew from: no validation, no leases, no fence. Drives
 * its one function `turn` the way its own measurement did.
 */
export const sketch: Contender = {
  name: 'sketch',
  insertOne: `insert into thread_operations (thread_id, operation, data) values ($1, 'add_message', $2)`,
  insertMany: `insert into thread_operations (thread_id, operation, data)
               select t, 'add_message', d::jsonb from unnest($1::text[], $2::text[]) as r (t, d)`,
  async drain(pool, url, { concurrency, handle }) {
    const woken = new EventEmitter()
    const listener = new pg.Client(url)
    await listener.connect()
    await listener.query('listen thread_operations')
    listener.on('notification', () => woken.emit('wake'))
    await pool.query(`insert into dispatchers (id) values ('bench') on conflict do nothing`)
    const client = await pool.connect()
    let running = 0
    let finished: string[] = []
    let stopped = false
    let asleep = false

    const round = async () => {
      const ids = finished
      finished = []
      const { rows } = await client.query('select * from turn($1, $2, $3, $4)', [
        'bench',
        ids,
        ids.map(() => '{}'),
        concurrency - running,
      ])
      for (const row of rows) {
        running++
        Promise.resolve(handle({ thread: row.thread_id, data: row.data })).then(() => {
          running--
          finished.push(row.id)
          woken.emit('wake')
        })
      }
      return rows.length
    }
    const loop = (async () => {
      while (!stopped) {
        const claimed = await round()
        await new Promise(setImmediate)
        if (claimed > 0 || finished.length > 0) {
          if (asleep) await client.query(`update dispatchers set asleep = false where asleep`)
          asleep = false
          continue
        }
        if (!asleep) {
          await client.query(`update dispatchers set asleep = true`)
          asleep = true
          continue
        }
        await Promise.race([
          once(woken, 'wake'),
          new Promise((resolve) => setTimeout(resolve, 250)),
        ])
      }
    })()
    return async () => {
      stopped = true
      woken.emit('wake')
      await loop
      client.release()
      await listener.end()
    }
  },
}

import pino from 'pino'
import { expect, onTestFinished } from 'vitest'
import { connect } from '../../src/db/connect.ts'
import { migrate } from '../../src/db/migrate.ts'
import { createPool } from '../../src/db/pool.ts'
import { Clockwork } from '../../src/lifecycle/clockwork.ts'
import { inturn, start } from '../cli/cli.ts'
import { insertRow } from '../support/line.ts'
import { test } from '../support/own-database.ts'
import { query } from '../support/query.ts'
import { restartableServer } from '../support/restartable-server.ts'
import { waitFor } from '../support/wait-for.ts'
import { askedToExpire, askForSweep, insertIdleThreads, setPolicy } from './idle-threads.ts'

/** One in this process, with what it logs. */
function startClockwork(url: string, schema = 'public') {
  const logged: Array<Record<string, any>> = []
  const log = pino({ level: 'debug' }, { write: (text) => void logged.push(JSON.parse(text)) })
  const pool = createPool(url, { schema, max: 2 })
  const clockwork = new Clockwork({ pool, schema, log, retryMs: 50 })
  clockwork.start()
  const stop = async () => {
    await clockwork.stop()
    if (!pool.ended) await pool.end()
  }
  onTestFinished(stop)
  return { logged, stop }
}

const jobs = (url: string, schema = 'public') =>
  query(
    url,
    `select id, state::text, output from "${schema}_boss".job where name = 'sweeps' order by created_on`,
  )

const swept = (logged: Array<Record<string, any>>) =>
  logged.filter(({ msg }) => msg === 'swept').length

test('sweeps at its start and is to do so every minute', async ({ url, pool }) => {
  await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
  await insertIdleThreads(pool, { count: 3 })
  const { stop } = startClockwork(url)
  await waitFor(async () => (await askedToExpire(pool)).length === 3)
  expect(await query(url, 'select name, cron from public_boss.schedule')).toEqual([
    { name: 'sweeps', cron: '* * * * *' },
  ])
  await stop()
  const [job] = await waitFor(async () => {
    const all = await jobs(url)
    return all[0]?.state === 'completed' && all
  })
  expect(job?.output).toMatchObject({ expiries_requested: 3, operations_pruned: 0 })
})

test('several dispatcher processes sweep once for all of them', async ({ url, pool }) => {
  const env = { OPENAI_API_KEY: 'any', OPENAI_BASE_URL: 'http://127.0.0.1:9/v1' }
  const dispatchers = Array.from({ length: 3 }, () =>
    start(['dispatch', '--log-level', 'debug'], { databaseUrl: url, env }),
  )
  for (const { printed } of dispatchers) await printed(/dispatcher started/)
  const sweeps = () =>
    dispatchers.reduce((sum, { stdout }) => sum + (stdout().match(/"swept"/g)?.length ?? 0), 0)
  const isQuiet = async () => (await jobs(url)).every(({ state }) => state === 'completed')
  // Each asks at its start; what comes while one goes on is one together.
  await waitFor(async () => (await jobs(url)).length > 0 && (await isQuiet()))
  await waitFor(async () => sweeps() === (await jobs(url)).length)
  const before = (await jobs(url)).length
  await askForSweep(pool)
  await waitFor(async () => (await isQuiet()) && sweeps() === (await jobs(url)).length)
  expect((await jobs(url)).length).toBeLessThanOrEqual(before + 2) // a minute may have begun
  for (const { child } of dispatchers) child.kill('SIGTERM')
  for (const { ended } of dispatchers) expect(await ended).toBe(0)
})

test('a dispatcher told so takes no part', async ({ url }) => {
  const env = { OPENAI_API_KEY: 'any', INTURN_SWEEPS: 'false' }
  const { printed, child, ended } = start(['dispatch'], { databaseUrl: url, env })
  await printed(/dispatcher started/)
  child.kill('SIGTERM')
  expect(await ended).toBe(0)
  expect(await jobs(url)).toEqual([])
})

test('without its tables it says what to do, goes on trying, and begins once they are there', async ({
  url,
  pool,
}) => {
  await pool.query('drop schema public_boss cascade')
  const { logged } = startClockwork(url)
  const [complaint] = await waitFor(() => logged.length > 0 && logged)
  expect(complaint).toMatchObject({
    level: 40,
    msg: 'the clockwork of expiry and retention failed; will try again',
    err: {
      message: 'The tables of pg-boss (schema public_boss) are missing.',
      hint: expect.stringContaining('inturn migrate'),
    },
  })
  expect(await migrate({ databaseUrl: url })).toMatchObject({ applied: [], clockwork: 'current' })
  await waitFor(() => swept(logged) === 1)
  expect(logged.filter(({ level }) => level >= 40)).toHaveLength(1)
})

test('tables of another version are left alone', async ({ url, pool }) => {
  await pool.query('update public_boss.version set version = version + 1')
  const { logged } = startClockwork(url)
  const [complaint] = await waitFor(() => logged.length > 0 && logged)
  expect(complaint?.err.message).toContain('of a later version of inturn')
  await pool.query('update public_boss.version set version = version - 1')
  await waitFor(() => swept(logged) === 1)
})

test('needs no right to create anything', async ({ url, pool }) => {
  const role = `dispatcher_${new URL(url).pathname.slice(1)}`
  await pool.query(`
    create role ${role} login password 'pass';
    grant usage on schema public to ${role};
    grant select, insert, update, delete on all tables in schema public to ${role}`)
  const limited = new URL(url)
  limited.username = role
  limited.password = 'pass'
  try {
    // Who takes no part in it needs no right on its tables either.
    expect(await inturn(['sweep'], { databaseUrl: limited.href })).toMatchObject({ code: 0 })
    const refused = startClockwork(limited.href)
    await waitFor(() => refused.logged.some(({ err }) => /permission denied/.test(err?.message)))
    await refused.stop()
    await pool.query(`
      grant usage on schema public_boss to ${role};
      grant select, insert, update, delete on all tables in schema public_boss to ${role}`)
    await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
    await insertIdleThreads(pool)
    const { logged, stop } = startClockwork(limited.href)
    await waitFor(
      async () =>
        (await askedToExpire(pool)).length === 1 || logged.some(({ level }) => level >= 40),
    )
    await stop()
    expect(logged.filter(({ level }) => level >= 40)).toEqual([])
    expect(await jobs(url)).toMatchObject([{ state: 'completed' }])
  } finally {
    await pool.query(`drop owned by ${role}; drop role ${role}`)
  }
})

test('each schema has a clockwork of its own, whatever its name', async ({ url }) => {
  const long = `${'L'.repeat(62)}x`
  for (const schema of ['Turns', long]) {
    await migrate({ databaseUrl: url, schema })
    const { logged, stop } = startClockwork(url, schema)
    await waitFor(() => swept(logged) === 1 || logged.some(({ level }) => level >= 40))
    expect(logged.filter(({ level }) => level >= 40)).toEqual([])
    await stop()
  }
  const schemas = await query(
    url,
    `select nspname from pg_namespace where nspname like '%\\_boss' order by length(nspname)`,
  )
  expect(schemas.map(({ nspname }) => nspname)).toEqual([
    'Turns_boss',
    'public_boss',
    expect.stringMatching(/^L{36}_[0-9a-f]{8}_boss$/),
  ])
})

test('comes back when the database does', async () => {
  const server = await restartableServer()
  const { logged } = startClockwork(server.url)
  // One that is still under way at the restart counts as such for a minute.
  await waitFor(async () => (await jobs(server.url))[0]?.state === 'completed')
  await server.restart('fast', async () => {
    await waitFor(() => logged.some(({ level }) => level === 40))
  })
  const client = await connect(server.url)
  onTestFinished(() => client.end())
  await askForSweep(client as never)
  await waitFor(() => swept(logged) >= 2, { timeoutMs: 20_000 })
})

test('a stop in the middle of a sweep ends it between two steps', async ({ url, pool }) => {
  await setPolicy(pool, 'p', { pattern: 'any', idle_ttl: '1 day' })
  await insertIdleThreads(pool, { count: 10 })
  const { stop } = startClockwork(url)
  // Nobody serves them, so the sweep goes on for its minute.
  await waitFor(async () => (await askedToExpire(pool)).length === 10)
  await waitFor(async () => (await jobs(url))[0]?.state === 'active')
  await stop()
  expect(await jobs(url)).toMatchObject([
    { state: 'completed', output: { expiries_requested: 10, expiries_under_way: 10 } },
  ])
  const { rows } = await pool.query(
    `select count(*)::int as open from pg_stat_activity where application_name = 'inturn' and datname = current_database()`,
  )
  expect(rows).toEqual([{ open: 0 }])
})

test('warns once of a thread that comes near to what its provider takes', async ({ url, pool }) => {
  await insertRow(pool, { thread_id: 'other' })
  await pool.query(
    `insert into threads (id, provider, provider_thread_id) values
       ('long', 'assistants', 'thread_1'), ('short', 'assistants', 'thread_2'), ('other kind', 'responses', 'conv_1')`,
  )
  await pool.query(
    `update threads set messages_so_far = case id when 'short' then 79999 else 80000 end`,
  )
  const near = async () =>
    (
      await pool.query(
        `select thread_id, messages from threads_near_limit(now() - interval '1 minute')`,
      )
    ).rows
  expect(await near()).toEqual([{ thread_id: 'long', messages: 80_000 }])
  const { logged } = startClockwork(url)
  await waitFor(() => swept(logged) === 1)
  await askForSweep(pool)
  await waitFor(() => swept(logged) === 2)
  expect(logged.filter(({ level }) => level === 40)).toMatchObject([
    {
      thread: 'long',
      messages: 80_000,
      msg: expect.stringContaining('of the 100000 messages'),
    },
  ])
  await setPolicy(pool, 'p', { pattern: 'any', max_messages: 90_000 })
  expect(await near()).toEqual([])
  await setPolicy(pool, 'p', { pattern: 'any', max_messages: 100_001 })
  expect(await near()).toHaveLength(1)
  await pool.query(`update thread_generations set messages_before = 40000 where thread_id = 'long'`)
  expect(await near()).toEqual([])
})

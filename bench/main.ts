import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { createTemporaryDatabase } from '../src/db/database.ts'
import { startEmbedded } from '../src/db/embedded.ts'
import { migrate } from '../src/db/migrate.ts'
import { createPool } from '../src/db/pool.ts'
import { operationData } from '../src/operations/data/index.ts'
import { dataCheckSql } from '../src/operations/data-check.ts'
import type { Contender } from './contender.ts'
import { inturn } from './inturn.ts'
import { rawCommits } from './raw.ts'
import { type Figure, scenarios } from './scenarios.ts'
import { sketch } from './sketch.ts'

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    runs: { type: 'string', default: '3' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log('npm run bench -- [--only A,B,C] [--runs 3]')
  for (const { name, title } of scenarios) console.log(`  ${name.padEnd(8)}${title}`)
  process.exit(0)
}
const only = flags.only === '' ? null : flags.only.split(',')
const unknown = only?.filter((name) => !scenarios.some((scenario) => scenario.name === name)) ?? []
if (unknown.length > 0 || !(Number(flags.runs) >= 1)) {
  console.error(`unknown scenario ${unknown.join(', ')} or bad --runs; see npm run bench -- --help`)
  process.exit(2)
}

// The design's first measured sketch, kept beside some checkouts; the comparison is left out elsewhere.
const sketchFile = resolve(process.env.SKETCH_SQL ?? '../shared/design/sketch/line.sql')
const contenders: Contender[] = existsSync(sketchFile) ? [inturn, sketch] : [inturn]

const server = process.env.DATABASE_URL
  ? { url: process.env.DATABASE_URL, stop: async () => {} }
  : await startEmbedded({ settings: { shared_buffers: '1GB', max_connections: '300' } })

/** One scenario, one contender, once, in a database of its own. */
async function measure(contender: Contender, run: (typeof scenarios)[number]['run']) {
  const database = await createTemporaryDatabase(server.url)
  const pool = createPool(database.url, { max: 30 })
  try {
    if (contender === inturn) {
      await migrate({ databaseUrl: database.url, generatedSql: dataCheckSql(operationData) })
    } else {
      await pool.query(readFileSync(sketchFile, 'utf8'))
    }
    return await run(contender, pool, database.url)
  } finally {
    await pool.end()
    await database.drop()
  }
}

const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number
const show = (value: number, unit: string) =>
  unit === '/s' ? Math.round(value).toLocaleString('en') : value.toFixed(2)

try {
  const raw = await rawCommits(server.url)
  console.log(
    `${cpus()[0]?.model.trim()}, ${availableParallelism()} cores; Node ${process.versions.node}; PostgreSQL ${raw.version}`,
  )
  console.log(
    `raw single-row commits: ${show(raw.ten, '/s')}/s with 10 connections, ${show(raw.one, '/s')}/s with one\n`,
  )
  console.log(`median of ${flags.runs} (least to most)`)
  for (const scenario of scenarios) {
    if (only && !only.includes(scenario.name)) continue
    console.log(`\n${scenario.name}  ${scenario.title}`)
    const runs = new Map<string, Record<string, Figure>[]>(contenders.map(({ name }) => [name, []]))
    // In turn, so that a machine that drifts drifts for both.
    for (let i = 0; i < Number(flags.runs); i++) {
      for (const contender of contenders) {
        runs.get(contender.name)?.push(await measure(contender, scenario.run))
      }
    }
    for (const [name, figures] of runs) {
      const columns = Object.entries(figures[0] ?? {}).map(([figure, { unit }]) => {
        const values = figures.map((run) => run[figure]?.value ?? Number.NaN)
        const range = `${show(Math.min(...values), unit)} to ${show(Math.max(...values), unit)}`
        return `${figure} ${show(median(values), unit).padStart(8)}  (${range})`
      })
      console.log(`   ${name.padEnd(8)} ${columns.join('   ')}`)
    }
  }
} finally {
  await server.stop()
}

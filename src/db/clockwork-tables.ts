import { createHash } from 'node:crypto'
import type pg from 'pg'

/** `newer`: a later version of inturn has migrated them. */
export type ClockworkState = 'current' | 'missing' | 'outdated' | 'newer'

/** The schema of pg-boss that belongs to ours: its name, which pg-boss limits to 50 bytes, and `_boss`. */
export function clockworkSchema(schema: string): string {
  if (schema.length <= 45) return `${schema}_boss`
  const hash = createHash('sha256').update(schema).digest('hex').slice(0, 8)
  return `${schema.slice(0, 36)}_${hash}_boss`
}

export async function clockworkState(
  queryable: pg.ClientBase | pg.Pool,
  schema: string,
): Promise<ClockworkState> {
  return stateOf(await versionThere(queryable, clockworkSchema(schema)), await plans())
}

/**
 * Creates the tables of pg-boss or brings them up to date, in the caller's transaction: so dispatchers need
 * no right to create anything. Returns how they are now.
 */
export async function applyClockwork(
  client: pg.ClientBase,
  schema: string,
): Promise<'current' | 'newer'> {
  const name = clockworkSchema(schema)
  const version = await versionThere(client, name)
  const boss = await plans()
  const state = stateOf(version, boss)
  if (state === 'missing') {
    // "if not exists" alone would need the right to create schemas, even where there is nothing to do.
    const { rows } = await client.query('select to_regnamespace($1) as found', [quoted(name)])
    if (rows[0].found === null) await client.query(`create schema ${quoted(name)}`)
    await client.query(
      withinTransaction(boss.getConstructionPlans(quoted(name), { createSchema: false })),
    )
  } else if (state === 'outdated') {
    await client.query(withinTransaction(boss.getMigrationPlans(quoted(name), version as number)))
  }
  return state === 'newer' ? 'newer' : 'current'
}

/** Loaded when it is asked for: whoever imports inturn as a client need not wait for it. */
const plans = () => import('pg-boss')

const quoted = (name: string) => `"${name}"`

const withinTransaction = (plan: string) =>
  plan.replace(/^\s*BEGIN;/, '').replace(/COMMIT;\s*$/, '')

function stateOf(
  version: number | null,
  { getConstructionPlans }: Awaited<ReturnType<typeof plans>>,
): ClockworkState {
  if (version === null) return 'missing'
  const wanted = Number(/\.version\(version\) VALUES \('(\d+)'\)/.exec(getConstructionPlans())?.[1])
  if (version === wanted) return 'current'
  return version < wanted ? 'outdated' : 'newer'
}

async function versionThere(
  queryable: pg.ClientBase | pg.Pool,
  name: string,
): Promise<number | null> {
  const table = `${quoted(name)}.version`
  const { rows } = await queryable.query('select to_regclass($1) as found', [table])
  if (rows[0].found === null) return null
  const { rows: versions } = await queryable.query(`select version from ${table}`)
  return versions[0]?.version ?? null
}

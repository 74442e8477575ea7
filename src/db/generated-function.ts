import { createHash } from 'node:crypto'
import type pg from 'pg'

/** `unknown`: there was nothing to compare with. */
export type GeneratedState = 'current' | 'outdated' | 'unknown'

const functionName = 'check_operation_data'

/** Runs `sql` unless what is there came from the same text; says whether it did. Needs `schema` as the search path. */
export async function applyGenerated(
  client: pg.ClientBase,
  schema: string,
  sql: string,
): Promise<boolean> {
  if ((await generatedState(client, schema, sql)) === 'current') return false
  await client.query(sql)
  const { rows } = await findFunctions(client, schema)
  for (const { signature } of rows) {
    await client.query(`comment on function ${signature} is '${mark(sql)}'`)
  }
  return true
}

/** Compares the text with the one that the function in the database was generated from. */
export async function generatedState(
  client: pg.ClientBase,
  schema: string,
  sql: string | undefined,
): Promise<GeneratedState> {
  if (sql === undefined) return 'unknown'
  const { rows } = await findFunctions(client, schema)
  const current = rows.length > 0 && rows.every(({ comment }) => comment === mark(sql))
  return current ? 'current' : 'outdated'
}

function findFunctions(client: pg.ClientBase, schema: string) {
  return client.query<{ signature: string; comment: string | null }>(
    `select oid::regprocedure::text as signature, obj_description(oid, 'pg_proc') as comment
     from pg_proc where proname = $1 and pronamespace = to_regnamespace($2)`,
    [functionName, `"${schema}"`],
  )
}

function mark(sql: string): string {
  return `generated, sha256 ${createHash('sha256').update(sql).digest('hex')}`
}

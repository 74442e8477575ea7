import type { z } from 'zod'
import { explanation } from './data-check/explanation.ts'
import { fastPath } from './data-check/fast-path.ts'
import { dataSchema } from './data-check/json-schema.ts'
import { indent } from './data-check/literals.ts'

/**
 * The SQL of `check_operation_data(operation, data)`, which every INSERT passes: true where the zod
 * schema of the operation accepts the data, else an error with a HINT (`check_violation`; constraint
 * `operation_is_known` or `operation_data_is_valid`). Keys, types, values and bounds are checked, of
 * the data and of fields that are strict objects; what is deeper inside is left to zod.
 *
 * The same schemas give the same SQL, which touches no table and needs no search_path. Throws where a
 * schema uses something that has no SQL.
 */
export function dataCheckSql(schemas: Record<string, z.ZodObject>): string {
  const operations = Object.fromEntries(
    Object.entries(schemas).map(([name, schema]) => [name, dataSchema(schema)]),
  )
  return `-- Generated from the schemas of the operations: change those, then run "inturn migrate".
create or replace function check_operation_data(p_operation text, p_data jsonb) returns boolean
language plpgsql immutable parallel safe as $check$
begin
  -- Valid data, the usual case. Every INSERT pays for it, so these are expressions without a query.
  if jsonb_typeof(p_data) = 'object' then
    ${indent(fastPath(operations), 4)}
  end if;

  -- Something is wrong: from here on only the explanation matters.
  ${indent(explanation(operations), 2)}
end $check$;
`
}

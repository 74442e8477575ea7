import { type Field, type FixedObject, fixedAlternative } from './json-schema.ts'
import { text, textArray } from './literals.ts'
import { valueCheck } from './value-check.ts'
import { inWords } from './words.ts'

/**
 * Every field as a row `(path, operations, required, valid, must_be)`, the fields inside of others
 * behind them. Operations that have the same field with the same rules share its row.
 */
export function fieldTable(operations: Record<string, FixedObject>): string {
  const rows = Object.entries(operations).flatMap(([operation, { fields }]) =>
    fields.flatMap((field) => fieldRows(field, [])).map((row) => ({ ...row, operation })),
  )
  const shared = Map.groupBy(rows, ({ path, columns }) => `${path}: ${columns}`)
  return [...shared.values()]
    .map(([first, ...others]) => {
      const names = [first, ...others].map((row) => row?.operation ?? '')
      return `(${textArray(first?.path ?? [])}, ${textArray(names)}, ${first?.columns})`
    })
    .join(',\n')
}

function fieldRows(field: Field, parents: string[]): { path: string[]; columns: string }[] {
  const path = [...parents, field.name]
  const value = ['p_data', ...path.map(text)].join('->')
  const valid = valueCheck(field.schema, value, 'shallow')
  const inside = fixedAlternative(field.schema)?.fields ?? []
  return [
    { path, columns: `${field.required}, ${valid}, ${text(inWords(field.schema))}` },
    ...inside.flatMap((each) => fieldRows(each, path)),
  ]
}

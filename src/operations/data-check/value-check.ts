import type { Rule } from '../data/rules.ts'
import {
  type Alternative,
  alternatives,
  type Field,
  fixedObject,
  type JsonSchema,
  listedValues,
} from './json-schema.ts'
import { isOneOf, jsonb, text, textArray } from './literals.ts'

/**
 * SQL over `value` (a jsonb expression) that is false where the schema refuses it; true or null where
 * it does not or where `value` is null. It never raises, whatever the value: nothing is cast.
 */
export function valueCheck(schema: JsonSchema, value: string, depth: 'shallow' | 'deep'): string {
  const all = alternatives(schema).map((each) => ({
    schema: each,
    type: text(each.type === 'integer' ? 'number' : each.type),
    values: listedValues(each),
    condition: condition(each, value, depth),
  }))
  if (all.every((each) => each.values))
    return `${value} ${isOneOf(all.flatMap((each) => (each.values ?? []).map(jsonb)))}`
  if (all.every((each) => each.condition === 'true'))
    return `jsonb_typeof(${value}) ${isOneOf(all.map((each) => each.type))}`
  const cases = all.map((each) => `when ${each.type} then ${each.condition}`)
  return `(case jsonb_typeof(${value}) ${cases.join(' ')} else ${value} is null end)`
}

/** What must hold for a value that has the type of `schema` already. */
function condition(schema: Alternative, value: string, depth: 'shallow' | 'deep'): string {
  const values = listedValues(schema)
  if (schema.type === 'null') return 'true'
  if (values) return `${value} ${isOneOf(values.map(jsonb))}`
  if (schema.minLength) return `${value} <> '""'`
  if (schema.minItems) return `${value} <> '[]'`
  if (schema.additionalProperties === false && depth === 'deep') {
    const { fields } = fixedObject(schema)
    return [noOtherKeys(fields, `(${value})`), ...fieldChecks(fields, value, ' and ')].join(' and ')
  }
  const bounds = boundsCheck(schema, value)
  // A whole number may be written 1.0: the text of a fraction has a digit other than 0 behind the point.
  if (schema.type === 'integer') bounds.push(`(${value})::text !~ '\\.0*[1-9]'`)
  return bounds.join(' and ') || 'true'
}

function boundsCheck({ minimum, maximum }: JsonSchema, value: string): string[] {
  if (minimum !== undefined && maximum !== undefined)
    return [`${value} between ${jsonb(minimum)} and ${jsonb(maximum)}`]
  if (minimum !== undefined) return [`${value} >= ${jsonb(minimum)}`]
  return maximum === undefined ? [] : [`${value} <= ${jsonb(maximum)}`]
}

export const noOtherKeys = (fields: readonly Field[], value: string): string =>
  `${value} - ${textArray(fields.map((field) => field.name))} = '{}'`

/** One condition per required field, and one for all others together, which may be absent (null). */
export function fieldChecks(fields: readonly Field[], value: string, and = '\n    and '): string[] {
  const check = (field: Field) => valueCheck(field.schema, `${value}->${text(field.name)}`, 'deep')
  const required = fields.filter((field) => field.required)
  const optional = fields.filter((field) => !field.required)
  return [
    ...required.map((field) => `${value} ? ${text(field.name)} and ${check(field)}`),
    ...(optional.length ? [`(${optional.map(check).join(and)}) is not false`] : []),
  ]
}

/** True where the rule is kept. */
export function ruleCheck({ when, oneOf }: Rule, value: string): string {
  const given = (name: string) => `${value}->${text(name)} <> 'null'`
  const kept = `(${oneOf.map(given).join(' or ')}) is true`
  return when === undefined ? kept : `((${given(when)}) is not true or ${kept})`
}

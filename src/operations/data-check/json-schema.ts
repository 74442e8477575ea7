import { z } from 'zod'
import type { Rule } from '../data/rules.ts'

export type JsonSchema = z.core.JSONSchema.JSONSchema
/** A schema of one type alone. */
export type Alternative = JsonSchema & { type: string }
export type Field = { name: string; required: boolean; schema: JsonSchema }

/** An object with fixed keys: `data` of an operation, or a field of it such as `message`. */
export type FixedObject = {
  fields: Field[]
  rules: readonly Rule[]
  /** Valid values, the smallest first. */
  examples: readonly unknown[]
}

/** What the check at the INSERT honours, or knows to be inside a value and leaves to zod. */
const understood = [
  ...['type', 'enum', 'const', 'minimum', 'maximum', 'minLength', 'minItems', 'anyOf'],
  ...['properties', 'required', 'additionalProperties', 'propertyNames', 'items', 'description'],
]

export function dataSchema(schema: z.ZodObject): FixedObject {
  const { rules, examples, ...json } = z.toJSONSchema(schema, { io: 'input' })
  if (json.additionalProperties !== false)
    throw new Error('The data of an operation must be a strict object: unknown keys are refused.')
  return {
    ...fixedObject(json),
    rules: (rules ?? []) as readonly Rule[],
    examples: examples ?? [],
  }
}

export function fixedObject(json: JsonSchema): FixedObject {
  const fields = Object.entries(json.properties ?? {}).map(([name, schema]) => ({
    name,
    required: json.required?.includes(name) ?? false,
    schema: schema as JsonSchema,
  }))
  return { fields, rules: [], examples: [] }
}

/** The types a value may have, one entry each: unions and nullable fields have several. */
export function alternatives(schema: JsonSchema): Alternative[] {
  const stranger = Object.keys(schema).find((keyword) => !understood.includes(keyword))
  if (stranger) throw new Error(`The check at the INSERT has no SQL for "${stranger}" of a schema.`)
  if ((schema.minLength ?? 1) > 1 || (schema.minItems ?? 1) > 1)
    throw new Error('The check at the INSERT has no SQL for a minimum length other than 1.')
  if (schema.anyOf) return (schema.anyOf as JsonSchema[]).flatMap(alternatives)
  return [schema.type ?? []].flat().map((type) => ({ ...schema, type }))
}

/** The alternative whose keys are fixed, so that they are checked too; undefined where any key will do. */
export function fixedAlternative(schema: JsonSchema): FixedObject | undefined {
  const fixed = alternatives(schema).find((each) => each.additionalProperties === false)
  return fixed && fixedObject(fixed)
}

/** The values of an enum or literal; undefined where the type alone decides. */
export function listedValues(schema: Alternative): readonly unknown[] | undefined {
  if (schema.type === 'null') return [null]
  return schema.const === undefined ? schema.enum : [schema.const]
}

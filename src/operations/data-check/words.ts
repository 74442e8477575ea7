import { type Alternative, alternatives, type JsonSchema, listedValues } from './json-schema.ts'

/** What a value must be, in words that follow "must be": `a number from 0 to 2 or null`. */
export function inWords(schema: JsonSchema): string {
  const words = alternatives(schema).flatMap((each) => {
    const values = listedValues(each)
    return values ? values.map((value) => JSON.stringify(value)) : typesInWords(each)
  })
  return words.join(', ').replace(/, (?=[^,]*$)/, ' or ')
}

function typesInWords(schema: Alternative): string[] {
  switch (schema.type) {
    case 'boolean':
      return ['true', 'false']
    case 'number':
      return [`a number${rangeInWords(schema)}`]
    case 'integer':
      return [`a whole number${rangeInWords(schema)}`]
    case 'string':
      return [schema.minLength ? 'a non-empty string' : 'a string']
    case 'array':
      return [schema.minItems ? 'a non-empty array' : 'an array']
    default:
      return ['an object']
  }
}

function rangeInWords({ minimum, maximum }: JsonSchema): string {
  // zod bounds every whole number by what a double holds exactly; nobody needs to read that.
  const upper = maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum
  const lower = minimum === Number.MIN_SAFE_INTEGER ? undefined : minimum
  if (lower !== undefined && upper !== undefined) return ` from ${lower} to ${upper}`
  if (lower !== undefined) return ` of at least ${lower}`
  return upper === undefined ? '' : ` of at most ${upper}`
}

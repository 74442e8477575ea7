type Schema = {
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  minimum?: number
  description?: string
  format?: string
}

/**
 * Arguments that fit a function's JSON schema, with what the message offers: numbers, quoted text,
 * names. Fills the required properties, or all of them when none is required.
 */
export function argumentsFor(schema: Schema, message: string): Record<string, unknown> {
  const properties = Object.entries(schema.properties ?? {})
  const required = schema.required ?? []
  const filled = properties.filter(([name]) => required.length === 0 || required.includes(name))
  return Object.fromEntries(filled.map(([name, one]) => [name, valueFor(name, one, message)]))
}

function valueFor(name: string, schema: Schema, message: string): unknown {
  if (schema.const !== undefined) return schema.const
  if (schema.enum) return schema.enum.find((value) => mentions(message, value)) ?? schema.enum[0]
  if (schema.anyOf?.[0]) return valueFor(name, schema.anyOf[0], message)
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case 'integer':
      return Math.round(numberIn(message) ?? schema.minimum ?? 1)
    case 'number':
      return numberIn(message) ?? schema.minimum ?? 1
    case 'boolean':
      return true
    case 'array':
      return schema.items ? [valueFor(name, schema.items, message)] : []
    case 'object':
      return argumentsFor(schema, message)
    case 'null':
      return null
    default:
      return textFor(`${name} ${schema.description ?? ''} ${schema.format ?? ''}`, message)
  }
}

const mentions = (message: string, value: unknown): boolean =>
  message.split(/[^\p{L}\p{N}_-]+/u).includes(String(value))

const numberIn = (message: string): number | undefined => {
  const found = /-?\d+(?:\.\d+)?/.exec(message)
  return found ? Number(found[0]) : undefined
}

/** What the property is about decides which part of the message it gets. */
function textFor(about: string, message: string): string {
  const first = (pattern: RegExp): string | undefined => {
    const found = pattern.exec(message)
    return found?.[1] ?? found?.[0]
  }
  if (/e-?mail/i.test(about)) return first(/\S+@[\w-]+\.[\w.-]*\w/) ?? 'ada@example.com'
  if (/\bday\b|weekday|day_/i.test(about))
    return first(/\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b/i) ?? 'Monday'
  if (/date/i.test(about)) return first(/\d{4}-\d\d-\d\d/) ?? '2026-01-01'
  const quoted = first(/["“«]([^"”»]+)["”»]/)
  if (quoted) return quoted
  const name = first(/\b(?:in|at|for|to|from|of|near) (\p{Lu}[\p{L}'-]*(?:,? \p{Lu}[\p{L}'-]*)*)/u)
  if (name) return name
  if (/city|location|place|town/i.test(about)) return 'Paris'
  return message
}

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Recorded, but not emulated: hosted tools, reasoning, padding, and answers that contradict others. */
const left = new Set([
  'obfuscation',
  'tool_usage',
  'phase',
  'tool_resources',
  'file_ids',
  'reasoning.context',
  'reasoning.mode',
  'encrypted_content',
])

const kindOf = (value: Json | undefined): string =>
  value === undefined
    ? 'nothing'
    : Array.isArray(value)
      ? 'array'
      : value === null
        ? 'null'
        : typeof value

/** Every place where `ours` lacks a recorded key or has another type there; null goes with anything. */
export function shapeProblems(recorded: Json, ours: Json | undefined, at: string): string[] {
  if (left.has(at.split('/').at(-1) ?? '')) return []
  if (ours === undefined) return [`${at}: missing`]
  if (recorded === null || ours === null) return []
  if (kindOf(recorded) !== kindOf(ours)) return [`${at}: ${kindOf(ours)} for ${kindOf(recorded)}`]
  if (Array.isArray(recorded)) {
    const own = ours as Json[]
    return recorded.flatMap((element, i) => {
      const alike = own.filter((one) => tagOf(one) === tagOf(element))
      const same = alike.find((one) => one === own[i]) ?? alike[0]
      return same === undefined ? [] : shapeProblems(element, same, `${at}/${i}`)
    })
  }
  if (typeof recorded !== 'object') return []
  return Object.entries(recorded).flatMap(([key, value]) => {
    if (left.has(key) || [...left].some((path) => path === `${at.split('/').at(-1)}.${key}`))
      return []
    return shapeProblems(value, (ours as { [key: string]: Json })[key], `${at}/${key}`)
  })
}

const tagOf = (value: Json): Json | undefined =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
    ? (value.type ?? 'object')
    : kindOf(value)

/**
 * JSON that `jsonb` takes: it knows neither U+0000 nor half a surrogate pair, and refusing one answer
 * that holds them would hold up all that is written with it.
 */
export function jsonbText(value: unknown): string {
  const json = JSON.stringify(value)
  if (!/\\u(0000|d[89a-f])/.test(json)) return json
  return JSON.stringify(value, (_key, part) => (typeof part === 'string' ? storable(part) : part))
}

/** The text as `jsonb` gives it back. */
export const storable = (text: string): string => text.toWellFormed().replaceAll('\0', '\ufffd')

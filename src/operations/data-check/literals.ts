/** SQL literals and layout of the generated check. */
export const text = (value: string): string => `'${value.replaceAll("'", "''")}'`
export const jsonb = (value: unknown): string => text(JSON.stringify(value))
/** Names of fields and operations need no quotes inside an array literal. */
export const textArray = (names: readonly string[]): string => `'{${names.join(',')}}'::text[]`

/** `= 'a'` or `in ('a', 'b')`. */
export const isOneOf = (literals: readonly string[]): string =>
  literals.length === 1 ? `= ${literals[0]}` : `in (${literals.join(', ')})`

/** Conditions of an `if`, one per line. */
export const allOf = (conditions: readonly string[]): string => conditions.join('\n  and ')

export const indent = (lines: string, by: number): string =>
  lines.replace(/\n(?=.)/g, `\n${' '.repeat(by)}`)

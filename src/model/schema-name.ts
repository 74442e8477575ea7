/** Where our tables live unless the user says otherwise. */
export const defaultSchema = 'public'

/** Names that need no escaping beyond double quotes, wherever they are written. */
const pattern = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/

/** What is wrong with `name` as the name of a database schema, and what to write; null when it is fine. */
export function schemaNameProblem(name: string): string | null {
  if (!pattern.test(name)) {
    return `"${name}" is no usable schema name: write 1 to 63 letters, digits or underscores, starting with a letter, e.g. inturn`
  }
  if (name.startsWith('pg_') || name === 'information_schema') {
    return `schema "${name}" belongs to PostgreSQL itself: choose another name, e.g. inturn`
  }
  return null
}

import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export type Migration = {
  /** Name of its folder, which also gives the order: `<time>_<concept>`. */
  name: string
  sql: string
  /** SHA-256 of the file's bytes in hex, which is what Prisma records. */
  checksum: string
}

/** `prisma/migrations` of this package, at the same distance from src/db as from dist/db. */
export const ourMigrations = fileURLToPath(new URL('../../prisma/migrations', import.meta.url))

/** The migrations in the folders of `dir`, each a `migration.sql`, in the order in which they apply. */
export async function readMigrations(dir: string): Promise<Migration[]> {
  const entries = await readdir(dir, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
  return Promise.all(
    names.sort().map(async (name) => {
      const bytes = await readFile(join(dir, name, 'migration.sql'))
      return {
        name,
        sql: bytes.toString('utf8'),
        checksum: createHash('sha256').update(bytes).digest('hex'),
      }
    }),
  )
}

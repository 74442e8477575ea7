import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type FixtureMigrations = AsyncDisposable & {
  dir: string
  /** Writes (or rewrites) `<name>/migration.sql`. */
  write(name: string, sql: string): Promise<void>
}

/** A temporary folder of migrations: `await using migrations = await fixtureMigrations({ '1_a': 'sql' })`. */
export async function fixtureMigrations(files: Record<string, string>): Promise<FixtureMigrations> {
  const dir = await mkdtemp(join(tmpdir(), 'inturn-migrations-'))
  const write = async (name: string, sql: string) => {
    await mkdir(join(dir, name), { recursive: true })
    await writeFile(join(dir, name, 'migration.sql'), sql)
  }
  for (const [name, sql] of Object.entries(files)) await write(name, sql)
  // As in the real folder, where it is no migration.
  await writeFile(join(dir, 'migration_lock.toml'), 'provider = "postgresql"\n')
  return { dir, write, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) }
}

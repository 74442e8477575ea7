import { readFile } from 'node:fs/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils'
import { SchemaEngine } from '@prisma/schema-engine-wasm'

const file = new URL('../../prisma/schema.prisma', import.meta.url)

/** The SQL that would turn the database into what schema.prisma says; empty when they agree. */
export async function diffToPrismaSchema(databaseUrl: string): Promise<string> {
  const schema = { path: 'schema.prisma', content: await readFile(file, 'utf8') }
  const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg(databaseUrl))
  const engine = await SchemaEngine.new({ datamodels: undefined }, () => {}, adapter)
  try {
    const { stdout } = await engine.diff({
      from: { tag: 'schemaDatasource', files: [schema], configDir: '.' },
      to: { tag: 'schemaDatamodel', files: [schema] },
      script: true,
      exitCode: null,
      filters: { externalTables: ['public._prisma_migrations'], externalEnums: [] },
    })
    return stdout ?? ''
  } finally {
    engine.free()
  }
}

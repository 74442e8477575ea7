import { readFile } from 'node:fs/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils'
import { SchemaEngine } from '@prisma/schema-engine-wasm'
import pg from 'pg'

const file = new URL('../../prisma/schema.prisma', import.meta.url)

/** The SQL that would turn the database into what schema.prisma says; a comment when they agree. */
export async function diffToPrismaSchema(databaseUrl: string): Promise<string> {
  const schema = { path: 'schema.prisma', content: await readFile(file, 'utf8') }
  const pool = new CatalogPool({ connectionString: databaseUrl, max: 1 })
  const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg(pool))
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
    await pool.end()
  }
}

/**
 * The engine asks for check constraints, which a Prisma schema cannot express, with a "char" column
 * that its own adapter cannot give it (prisma/orm#29635). It gets none.
 */
class CatalogPool extends pg.Pool {
  // None of the overloads of `query` matters here.
  override async query(...args: any[]): Promise<any> {
    const result = await (super.query as (...args: unknown[]) => Promise<pg.QueryResult>)(...args)
    for (const field of result.fields) {
      if (field.dataTypeID !== pg.types.builtins.CHAR) continue
      field.dataTypeID = pg.types.builtins.TEXT
      result.rows = []
    }
    return result
  }
}

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const files = (folder: string): string[] =>
  readdirSync(resolve(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('generated/'))
    .map((name) => `${folder}/${name}`)
const read = (file: string) => readFileSync(resolve(root, file), 'utf8')
const sources = files('src')

/** From top to bottom. A folder may import from its own row's folder and from rows below. */
const layers: Record<string, string[]> = {
  cli: [
    'demo',
    'client',
    'dispatcher',
    'lifecycle',
    'operations',
    'store',
    'provider',
    'emulator',
    'db',
    'base',
  ],
  demo: ['client', 'dispatcher', 'operations', 'store', 'provider', 'emulator', 'db', 'base'],
  client: ['operations', 'store', 'db', 'base'],
  dispatcher: ['lifecycle', 'operations', 'store', 'provider', 'db', 'base'],
  lifecycle: ['store', 'db', 'base'],
  operations: ['store', 'provider', 'base'],
  store: ['db', 'base'],
  provider: ['base'],
  db: ['base', 'generated'],
  emulator: ['base'],
  base: [],
}

/** `model/` and the few files beside the folders are pure values: the bottom of everything. */
const layerOf = (path: string): string => {
  const [, folder, ...rest] = path.split('/')
  if (rest.length === 0) return folder === 'index.ts' ? 'index' : 'base'
  return folder === 'model' ? 'base' : (folder as string)
}

type Import = { file: string; target: string; typeOnly: boolean }
const importsOf = (file: string): Import[] =>
  [...read(file).matchAll(/^(import|export)( type)? [^'"]*?from '([^']+)'/gms)].map(
    ([, , type, target]) => ({ file, target: target as string, typeOnly: type !== undefined }),
  )
const offenders = (violates: (line: string, file: string) => boolean, among = sources): string[] =>
  among.flatMap((file) =>
    read(file)
      .split('\n')
      .flatMap((line, i) => (violates(line, file) ? [`${file}:${i + 1}: ${line.trim()}`] : [])),
  )

describe('layers', () => {
  test('arrows point downward, so that each layer can be read and tested without those above', () => {
    const upward = sources
      .filter((file) => layerOf(file) !== 'index')
      .flatMap(importsOf)
      .filter(({ target }) => target.startsWith('.'))
      .filter(({ file, target }) => {
        const from = layerOf(file)
        const to = layerOf(relative(root, resolve(root, dirname(file), target)))
        return from !== to && !layers[from]?.includes(to)
      })
      .map(({ file, target }) => `${file} imports ${target}`)
    expect(upward).toEqual([])
  })

  test('a folder that the table of layers does not know is a decision to take first', () => {
    const unknown = sources.map(layerOf).filter((layer) => layer !== 'index' && !(layer in layers))
    expect(unknown).toEqual([])
  })

  test('the emulator stands alone, so that it cannot share a mistake with what it tests', () => {
    const shared = files('src/emulator')
      .flatMap(importsOf)
      .filter(({ target }) => /\/(provider|store|db|operations|dispatcher|client)\//.test(target))
    expect(shared).toEqual([])
  })

  test('openai is used at run time only by the adapters and the demo half without inturn', () => {
    const users = sources
      .flatMap(importsOf)
      .filter(({ target, typeOnly }) => /^openai($|\/)/.test(target) && !typeOnly)
      .map(({ file }) => file)
      .filter((file) => !file.startsWith('src/provider/') && !file.startsWith('src/demo/'))
    expect(users).toEqual([])
  })

  test('the environment is read in config.ts alone, where it is checked and documented', () => {
    expect(
      offenders((line, file) => /process\.env/.test(line) && file !== 'src/config.ts'),
    ).toEqual([])
  })

  test('SQL stands in store, db and the migrations (and the demo workers), where it is reviewed as SQL', () => {
    const sql =
      /\b(select\s.+\sfrom|insert\s+into\s+\w+|update\s+\w+\s+set|delete\s+from|create\s+(table|function|or replace))\b/i
    const allowed = /^src\/(store|db|demo|operations\/data-check)/
    // Hints and help quote statements for people to type; those lines name no parameter and run nowhere.
    const runs = (line: string) => /query|\$\d|\$queryRaw/.test(line)
    expect(offenders((line, file) => sql.test(line) && runs(line) && !allowed.test(file))).toEqual(
      [],
    )
  })
})

describe('house rules', () => {
  const everything = [...sources, ...files('test'), ...files('bench'), ...files('chaos')]

  test('a file is one concept: no more than 250 lines', () => {
    const long = [...sources, ...files('chaos')].filter(
      (file) => read(file).split('\n').length > 250,
    )
    expect(long).toEqual([])
  })

  test('no drawer for everything: util, common, helpers, types are not concepts', () => {
    const drawers = everything.filter((file) =>
      /\/(utils?|common|helpers?|types)(\.ts|\/)/.test(file),
    )
    expect(drawers).toEqual([])
  })

  test('nothing is left for later in the code', () => {
    const marks = new RegExp(`\\b(${['TO', 'DO|FIX', 'ME|X', 'XX'].join('')})\\b`)
    expect(offenders((line) => marks.test(line), everything)).toEqual([])
  })

  test('no test is skipped silently or run alone', () => {
    const marked = offenders(
      (line, file) =>
        /\b(test|it|describe)\.(only|skip|todo)\(/.test(line) &&
        !/reason/.test(line) &&
        file !== 'test/architecture.test.ts',
      files('test'),
    )
    expect(marked).toEqual([])
  })

  test('a test waits for a condition, never for a while (random pauses that shape a load are none)', () => {
    const naps = offenders(
      (line, file) =>
        /await (sleep|setTimeout)\(|setTimeout\(r(esolve)?,/.test(line) &&
        !line.includes('random') &&
        !file.startsWith('test/support/'),
      files('test').filter((file) => file !== 'test/architecture.test.ts'),
    )
    expect(naps).toEqual([])
  })
})

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ConfigError } from '../errors.ts'
import { type Tools, toolsProblem } from '../model/tool.ts'

/** The tools of a module, by its path from the working directory. Throws ConfigError. */
export async function loadTools(path: string): Promise<Tools> {
  const file = resolve(path)
  const refuse = (problem: string) => new ConfigError([`--tools ${path}: ${problem}`])
  if (!existsSync(file)) throw refuse('there is no such file; write a path like ./tools.ts')
  const loaded: { default?: unknown } = await import(pathToFileURL(file).href).catch((error) => {
    throw refuse(`it cannot be loaded: ${error instanceof Error ? error.message : error}`)
  })
  if (loaded.default === undefined)
    throw refuse('it has no default export: write export default defineTools({ … })')
  const problem = toolsProblem(loaded.default)
  if (problem !== null) throw refuse(problem)
  return loaded.default as Tools
}

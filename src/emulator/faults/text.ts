import { checkFaults, FaultsError } from './check.ts'
import type { CheckedFault } from './knobs.ts'

export const faultGrammar =
  "name[:route,…][:probability | :3x][:2s | :500ms][:setting=value]…, for example 'reset_after_commit:runs.create:0.1'"

/**
 * Faults as the command line writes them: the name, then in any order the routes, a probability
 * (`0.1`), a number of times (`3x`), a duration (`500ms`, `2s`) and any setting by name
 * (`retryAfter=7`). Throws one FaultsError with every problem.
 */
export function parseFaults(texts: readonly string[]): CheckedFault[] {
  const problems: string[] = []
  const faults = texts.map((text) => {
    const { fault, twice } = parseFault(text)
    if (twice) problems.push(`--fault '${text}': '${twice}' is there twice: write it once`)
    return fault
  })
  try {
    const checked = checkFaults(
      faults,
      (index, path) => `--fault '${texts[index]}'${path && `, ${path}`}`,
    )
    if (problems.length === 0) return checked
  } catch (error) {
    if (!(error instanceof FaultsError)) throw error
    problems.push(...error.message.split('\n'))
  }
  throw new FaultsError([...problems, `Write ${faultGrammar}`])
}

function parseFault(text: string): { fault: Record<string, unknown>; twice: string | undefined } {
  const [name, ...parts] = text.split(':')
  const settings = parts.map(settingOf)
  const keys = settings.map(([key]) => key)
  const twice = keys.find((key, i) => keys.indexOf(key) !== i)
  return { fault: { ...Object.fromEntries(settings), name }, twice }
}

function settingOf(part: string): [string, unknown] {
  const [, key, value] = /^(\w+)=(.*)$/.exec(part) ?? []
  if (key !== undefined && value !== undefined) return [key, valueOf(key, value)]
  const [, times] = /^(\d+)x$/.exec(part) ?? []
  if (times) return ['times', Number(times)]
  const [, length, unit] = /^([\d.]+)(ms|s)$/.exec(part) ?? []
  if (length) return ['ms', Number(length) * (unit === 's' ? 1000 : 1)]
  if (/^-?[\d.]+$/.test(part)) return ['probability', Number(part)]
  return ['on', part.split(',')]
}

function valueOf(key: string, text: string): unknown {
  if (key === 'on') return text.split(',')
  if (['thread', 'key', 'model'].includes(key)) return text
  if (text === 'true' || text === 'false') return text === 'true'
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text
}

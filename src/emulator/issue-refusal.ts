import type { z } from 'zod'
import { ApiError } from './api-error.ts'
import { missingParameter } from './errors.ts'

/** What an issue carries in `params` when a schema raises it in the API's own words. */
export type OwnCode = { code: string }

/** As the message of a `z.int` it makes the refusal expect an integer, where zod says a number. */
export const integerName = 'an integer'

/** What the API says to an issue that zod has found, at a path below `above`. */
export function refusalOf(issue: z.core.$ZodIssue, above: readonly PropertyKey[] = []): ApiError {
  const path = [...above, ...issue.path]
  const param = spell(path)
  const refuse = (message: string, code: string) => new ApiError(400, message, { param, code })
  switch (issue.code) {
    case 'unrecognized_keys': {
      const name = spell([...path, issue.keys[0] as string])
      return new ApiError(400, `Unknown parameter: '${name}'.`, {
        param: name,
        code: 'unknown_parameter',
      })
    }
    case 'invalid_type':
      if (issue.input === undefined) return missingParameter(param)
      return refuse(
        `Invalid type for '${param}': expected ${expectation(issue)}, but got ${typeOf(issue.input)} instead.`,
        'invalid_type',
      )
    case 'invalid_union':
      return refusalOfUnion(issue, path)
    case 'invalid_value':
      return unsupportedValue(issue.input, issue.values, param)
    case 'too_big':
    case 'too_small':
      return outOfBounds(issue, param)
    default: {
      const own = (issue as { params?: OwnCode }).params
      return refuse(issue.message, own?.code ?? 'invalid_value')
    }
  }
}

function unsupportedValue(value: unknown, supported: readonly unknown[], param: string): ApiError {
  if (value === undefined) return missingParameter(param)
  const names = supported.map((one) => `'${String(one)}'`)
  const others = names.length > 1 ? `${names.slice(0, -1).join(', ')} and ` : ''
  return new ApiError(
    400,
    `Invalid value: '${String(value)}'. Supported values are: ${others}${names.at(-1)}.`,
    { param, code: 'invalid_value' },
  )
}

/** Of several shapes the one that was meant is the one whose outer type, and `type` if it has one, fit. */
function refusalOfUnion(
  issue: z.core.$ZodIssueInvalidUnion,
  path: readonly PropertyKey[],
): ApiError {
  const param = spell(path)
  if (issue.input === undefined) return missingParameter(param)
  if ('options' in issue && issue.discriminator) {
    const value = (issue.input as Record<string, unknown>)[issue.discriminator]
    return unsupportedValue(value, issue.options ?? [], param)
  }
  const isOuter = (one: z.core.$ZodIssue) => one.path.length === 0 && one.code === 'invalid_type'
  const inner = issue.errors.filter((branch) => !branch.some(isOuter))
  const meant = inner.find((branch) => branch.every((one) => one.path[0] !== 'type')) ?? inner[0]
  if (meant?.[0]) return refusalOf(meant[0], path)
  const expected = issue.errors.flat().map((one) => ('expected' in one ? expectation(one) : ''))
  return new ApiError(
    400,
    `Invalid type for '${param}': expected one of ${expected.join(' or ')}, but got ${typeOf(issue.input)} instead.`,
    { param, code: 'invalid_type' },
  )
}

function outOfBounds(
  issue: z.core.$ZodIssueTooBig | z.core.$ZodIssueTooSmall,
  param: string,
): ApiError {
  const big = issue.code === 'too_big'
  const bound = Number(big ? issue.maximum : issue.minimum)
  const side = big ? 'maximum' : 'minimum'
  const measured = issue.origin === 'string' || issue.origin === 'array'
  const length = measured ? (issue.input as { length: number }).length : 0
  const kind = measured ? issue.origin : 'integer'
  const message = measured
    ? `Invalid '${param}': ${kind} too ${big ? 'long' : 'short'}. Expected ${typeNames[kind]} with ${side} length ${bound}, but got ${typeNames[kind]} with length ${length} instead.`
    : `Invalid '${param}': integer ${big ? 'above' : 'below'} ${side} value. Expected a value ${big ? '<=' : '>='} ${bound}, but got ${String(issue.input)} instead.`
  const code = `${kind}_${big ? 'above_max' : 'below_min'}_${measured ? 'length' : 'value'}`
  return new ApiError(400, message, { param, code })
}

/** `messages[0].content` */
const spell = (path: readonly PropertyKey[]): string =>
  path
    .map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i ? '.' : ''}${String(key)}`))
    .join('')

const typeNames: Record<string, string> = {
  string: 'a string',
  number: 'a decimal',
  int: integerName,
  boolean: 'a boolean',
  array: 'an array',
  object: 'an object',
  record: 'an object',
}

const expectation = ({ expected, message }: z.core.$ZodIssueInvalidType): string =>
  message === integerName ? message : (typeNames[expected] ?? expected)

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (Number.isInteger(value)) return 'an integer'
  return typeNames[typeof value] ?? typeof value
}

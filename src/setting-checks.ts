import { z } from 'zod'
import { type RetryPolicy, retryPolicyProblem } from './model/retry.ts'
import { schemaNameProblem } from './model/schema-name.ts'

// What the settings of config.ts may hold. The messages say what to write.

export function integer(min: number, max: number) {
  const error = `write a whole number from ${min} to ${max}`
  return z.coerce.number(error).int(error).min(min, error).max(max, error)
}

export function retryPolicy() {
  return z.string().transform((text, context): RetryPolicy => {
    const policy = parseJson(text)
    const problem = retryPolicyProblem(policy)
    if (problem) {
      const message = `${problem}: write JSON like {"max_attempts": 5, "run": {"max_attempts": 2}}`
      context.issues.push({ code: 'custom', message, input: text })
    }
    return policy as RetryPolicy
  })
}

/** Undefined where it is none, like what is no object. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export function boolean() {
  return z.union([z.boolean(), z.stringbool()], 'write true or false')
}

export function oneOf<const Names extends readonly string[]>(names: Names) {
  return z.enum(names, `write one of ${names.join(', ')}`)
}

export function listOf<const Names extends readonly string[]>(names: Names) {
  const error = `write one or more of ${names.join(', ')}, separated by commas`
  const list = z.array(z.enum(names, error), error)
  return z.preprocess((text) => (typeof text === 'string' ? text.split(/\s*,\s*/) : text), list)
}

export function schemaName() {
  return z.string().superRefine((name, context) => {
    const problem = schemaNameProblem(name)
    if (problem) context.addIssue(problem)
  })
}

/** The messages do not repeat the value, which may hold a password. */
export function postgresUrl() {
  return z.url({
    protocol: /^postgres(ql)?$/,
    error: 'write a URL like postgres://user:password@host:5432/database',
  })
}

export function httpUrl() {
  return z.url({ protocol: /^https?$/, error: 'write a URL like http://127.0.0.1:4010/v1' })
}

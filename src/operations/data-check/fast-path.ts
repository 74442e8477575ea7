import type { FixedObject } from './json-schema.ts'
import { allOf, indent, text } from './literals.ts'
import { fieldChecks, noOtherKeys, ruleCheck } from './value-check.ts'

/**
 * PL/pgSQL that returns true where `p_data` is valid, by simple expressions alone: a single query
 * would cost more than all of them. What decides most rows (required fields, fields of the rules) is
 * an expression of its own, so that a row with nothing else does not pay for what it could have.
 */
export function fastPath(operations: Record<string, FixedObject>): string {
  const branches = Object.entries(operations).map(
    ([name, data]) => `if p_operation = ${text(name)} then\n  ${indent(branch(data), 2)}\n`,
  )
  return `${branches.join('els')}end if;`
}

function branch({ fields, rules }: FixedObject): string {
  const ruled = rules.flatMap((rule) => [...rule.oneOf, rule.when])
  const usual = fields.filter((field) => field.required || ruled.includes(field.name))
  const others = fields.filter((field) => !usual.includes(field))
  const usualHold = [
    ...fieldChecks(usual, 'p_data'),
    ...rules.map((rule) => ruleCheck(rule, 'p_data')),
  ]
  const noOthers = noOtherKeys(usual, 'p_data')
  if (!others.length) return returnTrueIf([noOthers, ...usualHold])
  const steps = [
    returnTrueIf([noOthers]),
    returnTrueIf([noOtherKeys(fields, 'p_data'), ...fieldChecks(others, 'p_data')]),
  ]
  if (!usualHold.length) return steps.join('\n')
  return `if ${allOf(usualHold)} then\n  ${indent(steps.join('\n'), 2)}\nend if;`
}

const returnTrueIf = (conditions: readonly string[]) =>
  `if ${allOf(conditions)} then\n  return true;\nend if;`

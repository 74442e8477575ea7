import type { z } from 'zod'

/**
 * A rule between the fields of one operation: where `when` is given (left out: always), at least one
 * of `oneOf` must be given. Given means: there, and not null.
 */
export type Rule = { when?: string; oneOf: readonly string[]; message: string }

/**
 * The schema with the rule in both places that need it: as a refinement for zod, and as metadata for
 * the check at the INSERT. Call it last: zod keeps metadata with one instance only.
 */
export function withRule<S extends z.ZodObject>(schema: S, rule: Rule): S {
  return schema
    .refine((data) => follows(data, rule), rule.message)
    .meta({ ...schema.meta(), rules: [rule] satisfies Rule[] })
}

function follows(data: Record<string, unknown>, { when, oneOf }: Rule): boolean {
  const given = (name: string) => (data[name] ?? null) !== null
  return (when !== undefined && !given(when)) || oneOf.some(given)
}

import { z } from 'zod'
import { integerName, type OwnCode, refusalOf } from './issue-refusal.ts'

/** 16 pairs; keys up to 64, values up to 512 characters. `null` means none. */
export const metadataSchema = z
  .record(z.string(), z.string().max(512))
  .superRefine((metadata, context) => {
    const refuse = (message: string, code: string) =>
      context.addIssue({ code: 'custom', message, params: { code } satisfies OwnCode })
    const keys = Object.keys(metadata)
    if (keys.length > 16)
      refuse(
        `Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with ${keys.length} properties instead.`,
        'object_above_max_properties',
      )
    const long = keys.find((key) => key.length > 64)
    if (long !== undefined)
      refuse(
        `Invalid 'metadata': property name too long. Expected a property name with maximum length 64, but got a property name with length ${long.length} instead.`,
        'string_above_max_length',
      )
  })
  .nullish()

/** A whole number; plain `z.int()` would say that it expects a decimal. */
export const integer = (): z.ZodInt => z.int(integerName)

/** `input` as `schema` reads it; otherwise the API's words for the first thing wrong with it. */
export function parse<T>(schema: z.ZodType<T>, input: unknown): T {
  const result = schema.safeParse(input, { reportInput: true })
  if (result.success) return result.data
  throw refusalOf(result.error.issues[0] as z.core.$ZodIssue, [])
}

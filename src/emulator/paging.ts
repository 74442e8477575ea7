import { z } from 'zod'
import type { ApiError } from './api-error.ts'
import type { ApiRequest } from './router.ts'
import { integer, parse } from './validate.ts'

export type Page<T> = {
  object: 'list'
  data: T[]
  first_id: string | null
  last_id: string | null
  has_more: boolean
}

const pageQuery = z.object({
  // A limit that is no number stays text, so that the refusal can say so.
  limit: z
    .preprocess(
      (text) => (/^-?\d+$/.test(String(text)) ? Number(text) : text),
      integer().min(1).max(100),
    )
    .default(20),
  order: z.enum(['asc', 'desc']).default('desc'),
  after: z.string().optional(),
  before: z.string().optional(),
})

/**
 * One page of `oldestFirst`: 20 unless `limit` (1 to 100) says otherwise, newest first unless
 * `order=asc`, between the cursors `after` and `before`. Leaves out what the request does not see
 * yet, but takes it as a cursor. `unknown` words the refusal of a cursor that names nothing.
 */
export function paginate<T extends { id?: string | null }>(
  oldestFirst: readonly T[],
  { query, sees }: Pick<ApiRequest, 'query' | 'sees'>,
  unknown: (id: string) => ApiError,
): Page<T> {
  const { limit, order, after, before } = parse(pageQuery, Object.fromEntries(query))
  const all = order === 'asc' ? oldestFirst : oldestFirst.toReversed()
  const position = (id: string): number => {
    const index = all.findIndex((one) => one.id === id)
    if (index < 0) throw unknown(id)
    return index
  }
  const start = after === undefined ? 0 : position(after) + 1
  const end = before === undefined ? all.length : position(before)
  const between = all.slice(start, Math.max(start, end)).filter(sees)
  const backwards = before !== undefined && after === undefined
  const data = backwards ? between.slice(-limit) : between.slice(0, limit)
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: between.length > data.length,
  }
}

/** A list that is complete, such as the items just created. */
export const wholeList = <T extends { id?: string | null }>(data: T[]): Page<T> => ({
  object: 'list',
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: false,
})

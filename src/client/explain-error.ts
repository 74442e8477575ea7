import type { Query } from '../db/query.ts'
import { InturnError } from '../errors.ts'
import { RefusedError } from './errors.ts'

/** `query` whose refusals are errors of ours; all else is thrown as the driver threw it. */
export function explaining(query: Query): Query {
  return (text, values) =>
    query(text, values).catch((error) => {
      throw explain(error)
    })
}

function explain(error: unknown): unknown {
  const { sqlState, constraint, message, detail, hint } = saidByServer(error)
  if (sqlState === '23514') {
    return new RefusedError(constraint ?? 'refused', message ?? '', { hint, cause: error })
  }
  // Data exceptions, such as the character U+0000, which no text of PostgreSQL can hold.
  if (sqlState?.startsWith('22')) {
    const what = detail ? `${message}: ${detail}` : `${message}`
    return new RefusedError('value_is_not_storable', what, { hint, cause: error })
  }
  if (sqlState === '55P03') {
    return new InturnError('row_locked', message ?? '', { hint, cause: error })
  }
  if (sqlState === '42P01') {
    return new InturnError('not_migrated', `The tables of inturn are missing: ${message}`, {
      hint: 'Run `inturn migrate` on this database, with the same schema as here.',
      cause: error,
    })
  }
  return error
}

type Said = {
  sqlState?: string
  constraint?: string
  message?: string
  detail?: string
  hint?: string
}

/** The fields of the server's error, out of what `pg` or Prisma made of it. */
function saidByServer(error: unknown): Said {
  if (typeof error !== 'object' || error === null) return {}
  const { meta, severity, code, constraint, message, detail, hint } = error as {
    [Field in 'severity' | 'code' | 'constraint' | 'message' | 'detail' | 'hint']?: string
  } & { meta?: { driverAdapterError?: { cause?: Record<string, string> } } }
  const byPrisma = meta?.driverAdapterError?.cause
  if (byPrisma) {
    const { originalCode, originalMessage, detail, hint } = byPrisma
    return { sqlState: originalCode, message: originalMessage, detail, hint }
  }
  return severity === undefined ? {} : { sqlState: code, constraint, message, detail, hint }
}

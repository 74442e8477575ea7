/** The lock errors a queue must never see; each one served is counted. */
export const conflictKinds = ['run_conflict', 'message_conflict', 'conversation_locked'] as const
export type ConflictKind = (typeof conflictKinds)[number]

/** What held the lock: a run that a request started, one that an outsider did, or a fault after a run. */
export const conflictCauses = ['own_run', 'foreign_run', 'lingering_lock'] as const
export type ConflictCause = (typeof conflictCauses)[number]
/** Who holds a lock; no run does when it lingers. */
export type Holder = { cause: ConflictCause; runId: string | null }
export type Conflict = Holder & {
  kind: ConflictKind
  /** The refused request would have been refused anyway, for its input: it only asked for the lock. */
  probe?: boolean
}

export type ErrorDetails = {
  param?: string
  code?: string
  /** Default: `server_error` from status 500, else `invalid_request_error`. */
  type?: string
  headers?: Record<string, string>
  conflict?: Conflict
}
type ErrorBody = {
  error: { message: string; type: string; param: string | null; code: string | null }
}

/** A refusal as the API words it. Those not seen on the wire are worded by analogy. */
export class ApiError extends Error {
  readonly status: number
  readonly param: string | null
  readonly code: string | null
  readonly type: string
  readonly headers: Record<string, string>
  readonly conflict: Conflict | undefined

  constructor(status: number, message: string, more: ErrorDetails = {}) {
    super(message)
    this.status = status
    this.type = more.type ?? (status >= 500 ? 'server_error' : 'invalid_request_error')
    this.headers = more.headers ?? {}
    this.param = more.param ?? null
    this.code = more.code ?? null
    this.conflict = more.conflict
  }

  get body(): ErrorBody {
    const { message, type, param, code } = this
    return { error: { message, type, param, code } }
  }
}

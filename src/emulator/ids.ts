import { randomBytes, randomInt } from 'node:crypto'

const base62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** `thread_`, `msg_`, `run_` … and 24 letters or digits: the ids of the Assistants API, and of calls on both. */
export function shortId(prefix: 'asst' | 'thread' | 'msg' | 'run' | 'step' | 'call'): string {
  let id = `${prefix}_`
  for (let i = 0; i < 24; i++) id += base62[randomInt(62)]
  return id
}

/** `resp_`, `conv_`, `msg_` … and 50 hex digits: the ids of Conversations and Responses. */
export function longId(prefix: string): string {
  return `${prefix}_${randomBytes(25).toString('hex')}`
}

/** What `x-request-id` looks like. */
export const requestId = (): string => `req_${randomBytes(16).toString('hex')}`

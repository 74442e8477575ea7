import { InturnError } from '../errors.ts'
import type { ThreadKeys } from '../store/thread-keys.ts'

const names = ['user', 'session', 'topic']

/** Throws `thread_keys_invalid`. A number would be another key than the text that SQL finds it by. */
export function checkKeys(keys: ThreadKeys & Record<string, unknown>): void {
  for (const name of names) {
    const value = keys[name]
    if (value === undefined || typeof value === 'string') continue
    throw new InturnError('thread_keys_invalid', `${name} must be text, not ${told(value)}`, {
      hint: `Write { ${name}: '${typeof value === 'object' ? '42' : value}' }, or leave it out.`,
    })
  }
  const unknown = Object.keys(keys).find((name) => ![...names, 'labels'].includes(name))
  if (unknown !== undefined) {
    throw new InturnError('thread_keys_invalid', `A thread has no key "${unknown}"`, {
      hint: "Write inturn.thread({ user: '42', session: '9', topic: 'billing', labels: { team: 'red' } }), with one of the first three at least.",
    })
  }
}

const told = (value: unknown) => (value === null ? 'null' : `the ${typeof value} ${String(value)}`)

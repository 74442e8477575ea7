import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Polls `condition` until it returns something other than false, null or undefined, and returns
 * that; rejects with `message` after `timeoutMs` (default 30,000).
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: { timeoutMs?: number; message?: string } = {},
): Promise<Exclude<T, false | null | undefined>> {
  const { timeoutMs = 30_000, message = 'what the test waits for' } = options
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const value = await condition()
    if (value !== false && value !== null && value !== undefined) {
      return value as Exclude<T, false | null | undefined>
    }
    if (performance.now() > deadline) throw new Error(`Not within ${timeoutMs} ms: ${message}`)
    await sleep(5)
  }
}

import { setImmediate, setTimeout } from 'node:timers/promises'

/** Now, in the whole seconds that every `…_at` of the API counts in. */
export const seconds = (): number => Math.floor(Date.now() / 1000)

/** Waits `ms`; with 0 it only lets what is pending run first. Rejects when `signal` aborts. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  // An emulator that nobody closed must not keep its process alive.
  if (ms > 0) await setTimeout(ms, undefined, { signal, ref: false })
  else await setImmediate(undefined, { signal })
}

/** `work`, unless `signal` aborts first: then its reason. */
export function unlessAborted<T>(work: T | Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  return Promise.race([work, aborted])
}

/** Yields `pieces` at a steady `msEach`, catching up when a timer fires late. */
export async function* paced(
  pieces: Iterable<string>,
  msEach: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let due = performance.now()
  for (const piece of pieces) {
    due += msEach
    const wait = due - performance.now()
    if (wait >= 1) await pause(wait, signal)
    signal.throwIfAborted()
    yield piece
  }
}

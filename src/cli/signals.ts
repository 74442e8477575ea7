import { constants } from 'node:os'

export type StopSignal = 'SIGINT' | 'SIGTERM'

/** npm and npx pass on a Ctrl-C that the terminal has sent already: that is one signal, not two. */
const sameMs = 300

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilSignal(): Promise<StopSignal> {
  const { promise, resolve } = Promise.withResolvers<StopSignal>()
  let first: number | undefined
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      first ??= performance.now()
      resolve(signal)
      if (performance.now() - first > sameMs) process.exit(exitCodeOfSignal(signal))
    })
  }
  return promise
}

/** What a shell shows for a process that died of it: 130 for Ctrl-C, 143 for SIGTERM. */
export const exitCodeOfSignal = (signal: StopSignal): number => 128 + constants.signals[signal]

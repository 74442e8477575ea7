import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { environmentWith, type SettingName } from '../config.ts'
import { InturnError } from '../errors.ts'

export type DispatcherProcess = {
  /** Lets it finish what it does; with SIGKILL it does not get the chance. */
  stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
}

/** At the same distance from src/demo as from dist/demo. */
const main = fileURLToPath(new URL(`../cli/main${extname(import.meta.url)}`, import.meta.url))

/**
 * `inturn dispatch` as a process of its own, which also ends when this one does (it notices by the
 * IPC channel). Resolves when it serves. Throws `dispatcher_failed`. `onComplaint` gets what it
 * has to say beyond that all is well.
 */
export async function startDispatcherProcess(
  settings: Partial<Record<SettingName, string>>,
  onComplaint: (line: string) => void,
): Promise<DispatcherProcess> {
  const child = spawn(process.execPath, [main, 'dispatch'], {
    env: environmentWith(settings),
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const exited = once(child, 'exit')
  const { promise: started, resolve } = Promise.withResolvers<void>()
  for (const output of [child.stdout, child.stderr]) {
    createInterface(output as NodeJS.ReadableStream).on('line', (line) => {
      if (line.includes('"dispatcher started"')) resolve()
      // Level 30 is information: all is well.
      if (!line.startsWith('{"level":30,')) onComplaint(line)
    })
  }
  const failed = exited.then(() => {
    throw new InturnError('dispatcher_failed', 'A dispatcher ended before it could serve.')
  })
  await Promise.race([started, failed])
  failed.catch(() => {})
  return {
    async stop(signal) {
      child.kill(signal)
      await exited
    },
  }
}

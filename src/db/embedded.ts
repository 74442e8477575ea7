import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { InturnError } from '../errors.ts'
import { isOpen } from './embedded-programs.ts'

export type EmbeddedOptions = {
  /** Port on 127.0.0.1. Default: a free one. */
  port?: number
  /** Folder that keeps the data for the next start. Default: a temporary one, removed at the end. */
  dataDir?: string
  /** Forget what `dataDir` holds. Default false. */
  fresh?: boolean
  /** Server settings, fixed when the data folder is created, e.g. `{ fsync: 'off' }`. Default: PostgreSQL's own. */
  settings?: Record<string, string>
}

export type Embedded = {
  /** For the superuser, with a password made for this data folder. */
  url: string
  stop(): Promise<void>
}

/** What the guard process writes as its only line. */
export type GuardReport = { url: string } | { problem: string }

/**
 * Starts a real PostgreSQL from npm packages, reachable on 127.0.0.1 only; any number side by side.
 *
 * A guard process starts it and ends it when its standard input closes, which the operating system
 * sees to however this process ends, SIGKILL included. So there are no signal handlers here, and
 * Ctrl-C does not take the database away from somebody who is still finishing work.
 *
 * Throws `embedded_failed`.
 */
export async function startEmbedded(options: EmbeddedOptions = {}): Promise<Embedded> {
  const guardFile = new URL(`./embedded-guard${extname(import.meta.url)}`, import.meta.url)
  const guard = spawn(process.execPath, [fileURLToPath(guardFile), JSON.stringify(options)], {
    detached: true,
    windowsHide: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const exited = once(guard, 'exit')
  exited.catch(() => {})
  const report = await readReport(guard.stdout as Socket)
  if ('problem' in report) {
    await exited.catch(() => {})
    throw new InturnError(
      'embedded_failed',
      `Embedded PostgreSQL did not start: ${report.problem}`,
      {
        hint: 'Or set DATABASE_URL to use a PostgreSQL server of your own.',
      },
    )
  }
  // It shall not keep a process alive that has nothing else to do.
  guard.unref()
  const input = guard.stdin as Socket
  input.unref()
  return {
    url: report.url,
    async stop() {
      guard.ref()
      input.end()
      await exited
    },
  }
}

/** Whether a `dataDir` in `folder` will do: as root, PostgreSQL runs under another account, which must get there. */
export async function canServeFrom(folder: string): Promise<boolean> {
  return process.getuid?.() !== 0 || isOpen(resolve(folder))
}

async function readReport(output: Socket): Promise<GuardReport> {
  let text = ''
  for await (const chunk of output.setEncoding('utf8')) {
    text += chunk
    if (text.endsWith('\n')) return JSON.parse(text) as GuardReport
  }
  return { problem: 'its guard process ended before the server was ready' }
}

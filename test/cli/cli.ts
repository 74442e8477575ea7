import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { environmentWith } from '../../src/config.ts'
import { waitFor } from '../support/wait-for.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

type Options = {
  databaseUrl?: string
  /** Beyond this process's own, which gives no settings of ours. */
  env?: Record<string, string>
  input?: string
}

export type Running = {
  child: ChildProcess
  stdout(): string
  stderr(): string
  /** What `pattern` matches, once it is printed on either output. */
  printed(pattern: RegExp): Promise<RegExpExecArray>
  /** Exit code, or the name of the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>
}

/** Starts `inturn …` as a process of its own, which ends with the test at the latest. */
export function start(args: readonly string[], options: Options = {}): Running {
  const { databaseUrl = '', env, input } = options
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...environmentWith({ databaseUrl }), ...env },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text) => {
      output[name] += text
    })
  }
  child.stdin.end(input)
  const ended = once(child, 'close').then(([code, signal]) => code ?? signal)
  return {
    child,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    ended,
    printed: (pattern) =>
      waitFor(() => pattern.exec(output.stdout) ?? pattern.exec(output.stderr), {
        message: `${pattern} printed by inturn ${args.join(' ')}`,
      }),
  }
}

/** Runs `inturn …` to its end. */
export async function inturn(args: readonly string[], options: Options = {}) {
  const running = start(args, options)
  const code = await running.ended
  return { code, stdout: running.stdout(), stderr: running.stderr() }
}

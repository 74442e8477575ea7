import type { Progress } from '../demo/stress-test.ts'

export type ProgressLine = {
  show(progress: Progress): void
  /** Above the line, to stay. */
  say(text: string): void
  end(): void
}

/** On a terminal one line that is written anew; elsewhere one line for each beginning. On standard error. */
export function progressLine(): ProgressLine {
  const live = process.stderr.isTTY
  let last = ''
  return {
    show(progress) {
      const line = live ? text(progress) : heading(progress)
      if (line === last) return
      last = line
      process.stderr.write(live ? `\r\x1b[K${line}` : `${line}\n`)
    },
    say(text) {
      process.stderr.write(`${live ? '\r\x1b[K' : ''}${text}\n${live ? last : ''}`)
    },
    end() {
      if (live) process.stderr.write('\r\x1b[K')
    },
  }
}

function heading(progress: Progress): string {
  if (progress.step === 'preparing') return 'starting PostgreSQL, two emulators, two dispatchers …'
  return `${progress.provider}, ${progress.inturn ? 'with inturn' : 'without inturn'} …`
}

function text(progress: Progress): string {
  if (progress.step === 'preparing') return heading(progress)
  const { done, of } = progress
  const filled = Math.round((20 * done) / of)
  const bar = '█'.repeat(filled) + '░'.repeat(20 - filled)
  return `${bar} ${String(done).padStart(String(of).length)} of ${of}  ${heading(progress)}`
}

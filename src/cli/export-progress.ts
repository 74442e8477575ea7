export type ExportProgress = {
  /** One item more. */
  wrote(): void
  end(): void
}

const everyMs = 250

/**
 * How far an export is, on standard error: on a terminal one line that is written anew, elsewhere, where
 * it `isWanted`, a line each time.
 */
export function exportProgress(
  archives: ReadonlyArray<{ items: number }>,
  isWanted: boolean,
): ExportProgress {
  const live = process.stderr.isTTY
  const of = archives.reduce((sum, { items }) => sum + items, 0)
  let done = 0
  let shownAt = performance.now()
  const show = () => {
    const text = `${done} of ${of} items`
    process.stderr.write(live ? `\r\x1b[K${text}` : `${text}\n`)
  }
  return {
    wrote() {
      done++
      if (!(live || isWanted) || performance.now() - shownAt < everyMs) return
      shownAt = performance.now()
      show()
    },
    end() {
      if (isWanted) show()
      if (live) process.stderr.write(isWanted ? '\n' : '\r\x1b[K')
    },
  }
}

export type Cell = string | number | null | undefined

/** Columns in line, two spaces apart; numbers stand to the right, nothing is written as `-`. */
export function formatTable(titles: readonly string[], rows: readonly Cell[][]): string {
  const lines = [[...titles], ...rows.map((row) => row.map((cell) => String(cell ?? '-')))]
  const widths = titles.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)))
  const right = titles.map((_, i) => rows.some((row) => typeof row[i] === 'number'))
  return lines
    .map((line) =>
      line
        .map((cell, i) => (right[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** What it means in a sentence: `1 thread`, `2 threads`. */
export const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`

import type pg from 'pg'
import { busyStrategies } from '../../src/model/operation.ts'

const started = ['processing', 'requires_action', 'retrying'] as const

/** What an operation may meet in its line, as `when_busy` names it. */
export const situations = [
  'idle',
  'others wait',
  ...started.flatMap((status) => [status, `${status}, others wait`]),
]

export type Cell = { strategy: string; situation: string; actions: string[] }

/** What the database decides for each strategy in each situation. */
export async function decisions(pool: pg.Pool): Promise<Cell[]> {
  const { rows } = await pool.query(
    `select strategy, situation, when_busy(strategy, situation) as actions
       from unnest($1::text[]) with ordinality as s (strategy, n), unnest($2::text[]) with ordinality as t (situation, m)
      order by n, m`,
    [busyStrategies, situations],
  )
  return rows
}

const active: Record<string, string> = {
  processing: 'The run that goes on is cancelled, and what was said stays; ',
  requires_action: 'The run that asks for tool outputs is cancelled, and what was said stays; ',
  retrying:
    'The operation between two attempts, or held for an operator, is cancelled, and its message stays; ',
}

/** A cell as a sentence for people. */
function sentence({ situation, actions }: Cell): string {
  const [status = ''] = situation.split(',')
  if (actions.includes('start')) return 'It is served at once.'
  if (actions.includes('fail')) {
    const who = situation.startsWith('others') ? 'the first of those who wait' : 'what is active'
    return `It fails at once with \`thread_busy\`, which names ${who}.`
  }
  const before = actions.includes('cancel_active') ? (active[status] ?? '') : ''
  const others = actions.includes('supersede_waiting')
    ? 'the messages and runs that wait before it are superseded by it, and it is served in their place.'
    : actions.includes('merge_waiting')
      ? 'the messages directly before it go along with its run, which answers them all.'
      : situation === 'others wait'
        ? 'it is served after those who wait before it.'
        : situation.endsWith('others wait')
          ? 'it is served after those before it, in their order.'
          : 'it is served next.'
  return before + (before ? others : others.charAt(0).toUpperCase() + others.slice(1))
}

/** The table of docs/when-busy.md. */
export function decisionTable(cells: readonly Cell[]): string {
  const parts = [...Map.groupBy(cells, ({ strategy }) => strategy)].map(([strategy, rows]) =>
    [
      `### \`${strategy}\``,
      '',
      '| before it in the line | actions | what happens |',
      '| --- | --- | --- |',
      ...rows.map((cell) => {
        const actions = cell.actions.map((action) => `\`${action}\``).join(', ')
        return `| ${cell.situation} | ${actions} | ${sentence(cell)} |`
      }),
    ].join('\n'),
  )
  return parts.join('\n\n')
}

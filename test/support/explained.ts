import type pg from 'pg'

type Node = {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  'Actual Rows'?: number
  'Shared Hit Blocks': number
  'Shared Read Blocks': number
  Plans?: Node[]
}

/** What the server did for a call, as it tells itself: every statement, also within functions. */
export type Work = {
  /** Pages looked at. */
  pages: number
  /** Each scan as `Index Scan line_by_place` or `Seq Scan threads`, once. */
  scans: string[]
  /** Statements that looked at most pages, for a failing test to show. */
  largest: string[]
}

/** Has the server explain all that `client` does; needs a superuser. */
export async function explain(client: pg.ClientBase): Promise<void> {
  await client.query(`
    load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_analyze = on;
    set auto_explain.log_buffers = on;
    set auto_explain.log_timing = off;
    set auto_explain.log_nested_statements = on;
    set auto_explain.log_format = json;
    set client_min_messages = log;
  `)
}

/** Runs `call` and tells what the server did for it on `client`, which is being explained. */
export async function workOf(client: pg.ClientBase, call: () => Promise<unknown>): Promise<Work> {
  const plans: { text: string; plan: Node }[] = []
  const collect = ({ message }: { message: string }) => {
    const json = message.indexOf('{')
    if (!message.includes('plan:') || json < 0) return
    const { 'Query Text': text, Plan } = JSON.parse(message.slice(json))
    plans.push({ text, plan: Plan })
  }
  client.on('notice', collect as never)
  try {
    await call()
  } finally {
    client.off('notice', collect as never)
  }
  // The outermost statement counts the pages of those within, those of triggers aside.
  const pagesOf = (node: Node) => node['Shared Hit Blocks'] + node['Shared Read Blocks']
  const sorted = plans.toSorted((a, b) => pagesOf(b.plan) - pagesOf(a.plan))
  return {
    pages: sorted[0] ? pagesOf(sorted[0].plan) : 0,
    scans: [...new Set(plans.flatMap(({ plan }) => scansOf(plan)))].sort(),
    largest: sorted.slice(0, 5).map(({ text, plan }) => `${pagesOf(plan)} pages: ${text.trim()}`),
  }
}

function scansOf(node: Node): string[] {
  const below = (node.Plans ?? []).flatMap(scansOf)
  const what = node['Index Name'] ?? node['Relation Name']
  return node['Node Type'].includes('Scan') && what !== undefined
    ? [`${node['Node Type']} ${what}`, ...below]
    : below
}

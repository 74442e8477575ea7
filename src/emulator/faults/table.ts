import type { z } from 'zod'
import { kindsOf, nounOf, type RouteKind, routeKinds } from '../route-kinds.ts'
import { faultNames, knobs } from './knobs.ts'

const shared = ['on', 'thread', 'key', 'model', 'probability', 'times']

/** The knobs as Markdown tables: `docs/faults.md`. */
export function faultTable(): string {
  const general = Object.entries<z.ZodType>(knobs.overloaded.schema.shape)
  const rows = faultNames.map((name) => {
    const { text, kinds, schema } = knobs[name]
    const own = Object.entries<z.ZodType>(schema.shape).filter(([key]) => !shared.includes(key))
    const settings = own.map(([key, one]) => `\`${key}\`: ${meaning(one)}`).join('<br>')
    return `| \`${name}\` | ${text} | ${strikes(kinds)} | ${settings} |`
  })
  return `# Faults of the emulator

Rehearse what a provider can do to you. In code \`startEmulator({ faults: [{ name: 'overloaded', on: 'runs.create', probability: 0.1 }], seed: 1 })\`,
later \`emulator.setFaults([…])\`; on the command line \`inturn emulator --fault 'overloaded:runs.create:0.1' --seed 1\`;
over HTTP, without a key, \`PUT /emulator/faults\` with \`{"faults": […], "seed": 1}\`, \`GET\` (with how often each fired) and \`DELETE\`.

Of the faults that fit a place, the first whose draw says so strikes. The seed decides every draw: with the same seed and plan,
the n-th place that fits a fault is struck again, or again is not. A new plan starts its draws anew, lets stuck runs go on and shows what was hidden.

## What every fault takes

| setting | meaning |
| --- | --- |
${general.map(([key, one]) => `| \`${key}\` | ${meaning(one)} |`).join('\n')}

\`key\` and \`model\` are for the faults of requests, down to \`assistants_sunset\` in the table.

On the command line: \`name\`, then in any order and separated by colons the routes (\`runs.create,items.list\`), the probability
(\`0.1\`), how often (\`3x\`), a duration (\`500ms\`, \`2s\`: the setting \`ms\`), and any setting by name (\`retryAfter=7\`).

## Faults

| name | what happens | strikes | settings |
| --- | --- | --- | --- |
${rows.join('\n')}

## Foreign runs

\`emulator.foreignRun(threadId, { ms, message })\`, or \`POST /emulator/threads/:id/foreign-run\` with \`{"ms": 1000}\`, starts a run as an
outsider would. What it refuses counts in \`stats.conflictsByCause.foreign_run\`, what a lingering lock refuses in \`lingering_lock\`,
and what a run refuses that a request has started in \`own_run\`.

## What has happened

| in code | over HTTP | what it gives |
| --- | --- | --- |
| \`emulator.history(threadId)\` | \`GET /emulator/threads/:id\` | the messages in their true order, each with the run that wrote it |
| \`emulator.runs(threadId)\` | \`GET /emulator/runs?thread=\` | every run or response: status, metadata, start and end |
| \`emulator.keptItems()\` | \`GET /emulator/kept-items\` | items that stood in conversations when these were deleted: a provider keeps them |
| \`emulator.conflicts()\` | \`GET /emulator/conflicts\` | every lock error served: cause, the run that held the lock, whether its own request was sent again (\`resent\`), and whether the refused one could not have taken effect anyway (\`probe\`) |
| \`emulator.requests({ key, since, kind, thread })\` | \`GET /emulator/requests?key=&since=&kind=&thread=\` | the API requests and how each was answered; keys show as fingerprints |
| \`emulator.stats\` | \`GET /emulator/stats\` | the totals |

## Route kinds

${listed(routeKinds)}
`
}

const listed = (words: readonly string[]): string => words.map((word) => `\`${word}\``).join(' ')

/** A noun stands for its kinds where none of them is missing. */
function strikes(kinds: readonly RouteKind[]): string {
  if (kinds.length === routeKinds.length) return 'any request'
  const words = kinds.map((kind) => {
    const noun = nounOf(kind)
    return kindsOf(noun).every((one) => kinds.includes(one)) ? noun : kind
  })
  return listed([...new Set(words)])
}

function meaning(setting: z.ZodType): string {
  const { success, data } = setting.safeParse(undefined)
  return `${setting.description}${success && data !== undefined ? `; default ${data}` : ''}`
}

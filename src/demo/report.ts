import type { Half } from './half.ts'
import type { ProviderResult } from './stress-test.ts'

export function succeeded({ with: half }: ProviderResult): boolean {
  return half.gotThrough === half.of && half.conflicts === 0 && half.inOrder
}

/** The results as people read them, with what the figures mean. */
export function reportText(
  results: readonly ProviderResult[],
  { workers, iterations }: { workers: number; iterations: number },
): string {
  const title = `${workers} workers × ${iterations} iterations on one shared thread, no delay; each adds a message and runs the assistant`
  return [title, ...results.map(providerText), notes].join('\n\n')
}

const rows: ReadonlyArray<[string, (half: Half) => string]> = [
  ['got through', ({ gotThrough, of }) => `${gotThrough} of ${of}`],
  ['conflicts served', ({ conflicts }) => String(conflicts)],
  ['messages in order', ({ inOrder }) => (inOrder ? 'yes' : 'no')],
  ['wall time', ({ wallMs }) => seconds(wallMs)],
  ['provider busy', ({ busyMs }) => seconds(busyMs)],
]

function providerText({ provider, without, with: inturn }: ProviderResult): string {
  const line = (name: string, left: string, right: string) =>
    `  ${name.padEnd(20)}${left.padStart(14)}${right.padStart(14)}`
  return [
    line(provider, 'without inturn', 'with inturn'),
    `  ${'─'.repeat(48)}`,
    ...rows.map(([name, show]) => line(name, show(without), show(inturn))),
  ].join('\n')
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`

const notes = `Without inturn, every worker calls the provider itself with the openai SDK and waits for its run; each
failing request is tried 3 times, then the iteration is lost. A published test of this kind saw 5 of 50
get through and 135 errors. With inturn, the same workers only INSERT rows; two dispatcher processes
execute them. In order: every message is there, in the order of its line, and was answered before the
next one came. Both halves talk to the emulator over HTTP.`

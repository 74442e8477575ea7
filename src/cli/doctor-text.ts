import type { Finding } from '../store/doctor/examine.ts'
import { count } from './table.ts'

export type Repair = { name: string; done: string }

export type Checkup = {
  /** After the repairs, if there were any. */
  findings: readonly Finding[]
  repairs: readonly Repair[]
  tookMs: number
}

/** Offenders that are named; the others are counted. */
const shown = 20

/** A line per invariant; below each broken one, whom it concerns and what to do. */
export function formatCheckup({ findings, repairs, tookMs }: Checkup): string {
  const width = Math.max(...findings.map(({ invariant }) => invariant.name.length))
  const lines = repairs.map(({ name, done }) => `fixed ${name}: ${done}`)
  if (repairs.length > 0) lines.push('')
  for (const { invariant, broken, offenders } of findings) {
    lines.push(`${broken > 0 ? '✗' : '✓'} ${invariant.name.padEnd(width)}  ${invariant.promise}`)
    for (const { id, thread, detail } of offenders.slice(0, shown)) {
      lines.push(`    operation ${id}${thread === null ? '' : ` of ${thread}`}: ${detail}`)
    }
    if (broken > shown) lines.push(`    … and ${broken - shown} more`)
    if (broken > 0) lines.push(`  → ${invariant.advice}`)
    if (broken > 0 && invariant.fix) lines.push('  → "inturn doctor --fix" repairs it.')
  }
  const ill = findings.filter(({ broken }) => broken > 0).length
  const verdict = ill === 0 ? 'healthy' : `${ill} broken`
  lines.push('', `${verdict}: ${count(findings.length, 'invariant')} checked in ${tookMs} ms`)
  return lines.join('\n')
}

/** The same as an object. */
export function forPrograms({ findings, repairs, tookMs }: Checkup) {
  return {
    healthy: findings.every(({ broken }) => broken === 0),
    took_ms: tookMs,
    repairs,
    invariants: findings.map(({ invariant, broken, offenders }) => ({
      name: invariant.name,
      promise: invariant.promise,
      broken,
      offenders: offenders.slice(0, shown),
      ...(broken > 0 && { advice: invariant.advice, fixable: invariant.fix !== undefined }),
    })),
  }
}

import { createHash } from 'node:crypto'

/**
 * The `draw`-th random number of a fault, from 0 up to but not including 1. It follows from the seed,
 * the fault's place in the plan and the number of its draws alone, so that what other faults do
 * changes nothing.
 */
export function chance(seed: number, place: number, draw: number): number {
  const digest = createHash('sha256').update(`${seed}/${place}/${draw}`).digest()
  return digest.readUIntBE(0, 6) / 2 ** 48
}

export const offences = [
  'duplicate',
  'loss',
  'order',
  'conflict',
  'failure',
  'end',
  'hold',
  'stream',
  'life',
  'doctor',
] as const
export type Offence = (typeof offences)[number]

/** Something that must not be. */
export type Offender = {
  offence: Offence
  thread: string | null
  operations: number[]
  text: string
}

export const offender = (
  offence: Offence,
  thread: string | null,
  operations: number[],
  text: string,
): Offender => ({ offence, thread, operations, text })

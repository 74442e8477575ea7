import type { SettingName } from '../src/config.ts'
import type { Latency } from '../src/emulator/index.ts'

/** How large a run is, and how fast its clocks go. */
export type Scale = {
  dispatchers: number
  writers: number
  /** In how many lines the operations stand; a few are in use at any time. */
  threads: number
  operations: number
  /** What the dispatchers are told beside keys and URLs. */
  settings: Partial<Record<SettingName, string>>
  /** Deadline of a provider call, in milliseconds. */
  callTimeoutMs: number
  /** Longest time for which reads lag behind, in milliseconds; shorter than the provider's settle time. */
  lagMs: number
  /** Of all other durations: 1 is that of a real fleet. */
  pace: number
  latency: Latency
  /** Longest wait for the last operation when all is calm again, in milliseconds. */
  drainMs: number
}

/** Dispatchers with no setting of their own, so that the defaults are proved. */
export const standard = (seconds: number): Scale => ({
  dispatchers: 3,
  writers: 6,
  threads: Math.max(20, Math.round(seconds / 2)),
  operations: Math.max(100, Math.round(seconds * 2.5)),
  settings: {},
  callTimeoutMs: 60_000,
  lagMs: 33_000,
  pace: 1,
  latency: { queuedMs: 200, thinkMs: 2_500, perTokenMs: 100 },
  drainMs: 900_000,
})

/** The same, ten times as fast, for a minute in which others want the processor too. */
export const short = (seconds: number): Scale => ({
  dispatchers: 3,
  writers: 4,
  threads: Math.max(10, seconds * 2),
  operations: Math.max(50, seconds * 15),
  settings: {
    heartbeatMs: '100',
    graceMs: '800',
    leaseMs: '2000',
    pollMs: '100',
    callTimeoutMs: '1500',
    settleMs: '1500',
    assistantsSettleMs: '1500',
    runTimeoutMs: '3000',
    retryBaseMs: '100',
    retryMaxMs: '3000',
    laneProbeMs: '1500',
    shutdownMs: '2000',
  },
  callTimeoutMs: 1_500,
  lagMs: 1_200,
  pace: 0.12,
  latency: { queuedMs: 20, thinkMs: 250, perTokenMs: 10 },
  drainMs: 60_000,
})

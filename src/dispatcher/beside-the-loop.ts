import { takeCancellations } from '../store/cancellations.ts'
import type { Sighting } from '../store/dispatchers.ts'
import { advanceErasures } from '../store/erasures.ts'
import { cancelHolds } from '../store/holds.ts'
import { joinScheduled } from '../store/scheduled.ts'
import { applyToolOutputs } from '../store/tool-calls.ts'
import { Chores } from './chores.ts'
import { Failover } from './failover.ts'
import type { HeldClaims } from './held-claims.ts'
import type { DispatcherOptions } from './options.ts'
import { Sweeper } from './recovery.ts'
import { Rotations } from './rotations.ts'
import { StreamCleaner } from './stream-cleaner.ts'
import { ToolRunner } from './tool-runner.ts'

/** The dispatcher that all this is done for: its id, what it holds, and what to do when there is something to claim. */
type Host = { dispatcherId: () => string; claims: HeldClaims; onFound: () => void }

/** What a dispatcher does beside serving heads: the sweep, the watch over the others, rotations, and its chores. */
export class BesideTheLoop {
  readonly #sweeper: Sweeper
  readonly #failover: Failover
  readonly #rotations: Rotations
  readonly #tools: ToolRunner | undefined
  readonly #chores: Chores

  constructor(options: DispatcherOptions, host: Host) {
    const { pool, heartbeatMs, log, tools, toolConcurrency = 10 } = options
    const { dispatcherId, claims, onFound } = host
    this.#sweeper = new Sweeper(options, host)
    this.#failover = new Failover(options, host)
    this.#rotations = new Rotations(options, host)
    claims.onSettled((threads) => this.#rotations.settled(threads))
    const takeCancellationsHere = async () => {
      const { wanted, ready } = await takeCancellations(pool, dispatcherId())
      claims.cancel(wanted)
      return ready
    }
    const cleaner = new StreamCleaner(pool, options.streamRetentionMs)
    const runner = tools && new ToolRunner({ ...options, tools, toolConcurrency }, dispatcherId)
    this.#tools = runner
    if (runner) claims.alsoCallOff(() => runner.callOff())
    const chores = [
      { name: 'take_cancellations', run: takeCancellationsHere },
      { name: 'join_scheduled', run: () => joinScheduled(pool, dispatcherId()) },
      { name: 'cancel_holds', run: () => cancelHolds(pool, dispatcherId()) },
      { name: 'apply_tool_outputs', run: () => applyToolOutputs(pool, dispatcherId()) },
      ...(runner ? [{ name: 'run_tools', run: () => runner.run() }] : []),
      { name: 'advance_erasures', run: () => advanceErasures(pool).then(() => false) },
      { name: 'delete_old_streams', run: () => cleaner.clean() },
    ]
    this.#chores = new Chores(chores, { everyMs: heartbeatMs, onFound, log })
  }

  start(): void {
    this.#sweeper.start()
    this.#rotations.start()
    this.#chores.start()
  }

  /** Does the chores now. */
  wake(): void {
    this.#chores.wake()
  }

  saw(sighting: Sighting): void {
    this.#failover.saw(sighting)
  }

  async stop(): Promise<void> {
    await Promise.all([this.#sweeper.stop(), this.#failover.stop(), this.#chores.stop()])
    await Promise.all([this.#rotations.stop(), this.#tools?.stop()])
  }
}

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { environmentWith, type SettingName } from '../src/config.ts'
import type { Death } from './deaths.ts'
import type { FleetDisturbance } from './disturbances.ts'

const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))

export type FleetOptions = {
  size: number
  settings: Partial<Record<SettingName, string>>
  databaseUrl: string
  /** Where the dispatchers' logs go. */
  folder: string
  /** Told when a dispatcher died or fell silent, by its process id, at once. */
  onGone: (pid: number, how: Death) => Promise<void>
}

export type FleetCounts = { kill: number; stop: number; terminate: number; crash: number }

/** Dispatchers as `inturn dispatch` runs them, each with a name by which the database knows its sessions. */
export class Fleet {
  readonly #options: FleetOptions
  readonly #members: Array<ChildProcess | undefined> = []
  readonly counts: FleetCounts = { kill: 0, stop: 0, terminate: 0, crash: 0 }
  #ended = false

  constructor(options: FleetOptions) {
    this.#options = options
    for (let member = 0; member < options.size; member++) this.#start(member)
  }

  static sessionsOf = (member: number): string => `chaos dispatcher ${member}`

  /** Resolves when the dispatcher serves again, or at least has been started. */
  async disturb(
    { dispatcher, ...disturbance }: Exclude<FleetDisturbance, { what: 'cut sessions' }>,
    pause: (ms: number) => Promise<void>,
  ): Promise<void> {
    const child = this.#members[dispatcher]
    // Still ending, from the last time.
    if (child === undefined || this.#ended) return
    this.counts[disturbance.what]++
    if (disturbance.what === 'stop') {
      child.kill('SIGSTOP')
      const told = this.#options.onGone(child.pid as number, 'stop')
      await pause(disturbance.ms).finally(() => child.kill('SIGCONT'))
      return told
    }
    this.#members[dispatcher] = undefined
    const exited = once(child, 'exit')
    child.kill(disturbance.what === 'kill' ? 'SIGKILL' : 'SIGTERM')
    await exited
    if (disturbance.what === 'kill') await this.#options.onGone(child.pid as number, 'kill')
    await pause(disturbance.downMs).finally(() => this.#start(dispatcher))
  }

  /** Ends all; those that have not ended by themselves within `patienceMs` are killed. */
  async end(patienceMs: number): Promise<void> {
    this.#ended = true
    await Promise.all(
      this.#members.map(async (child) => {
        if (!child || child.exitCode !== null || child.signalCode !== null) return
        const exited = once(child, 'exit')
        child.kill(patienceMs > 0 ? 'SIGTERM' : 'SIGKILL')
        child.kill('SIGCONT')
        const impatient = setTimeout(() => child.kill('SIGKILL'), patienceMs)
        await exited
        clearTimeout(impatient)
      }),
    )
  }

  #start(member: number): void {
    if (this.#ended) return
    const { databaseUrl, settings, folder } = this.#options
    const url = new URL(databaseUrl)
    url.searchParams.set('application_name', Fleet.sessionsOf(member))
    const log = openSync(join(folder, `dispatcher-${member}.log`), 'a')
    const child = spawn(process.execPath, [main, 'dispatch'], {
      env: environmentWith({ ...settings, databaseUrl: url.href }),
      // By the channel it notices when this process is gone.
      stdio: ['ignore', log, log, 'ipc'],
    })
    this.#members[member] = child
    child.once('exit', () => {
      if (this.#members[member] !== child || this.#ended) return
      // Of its own accord: nothing that is done here may bring that about.
      this.counts.crash++
      this.#start(member)
    })
  }
}

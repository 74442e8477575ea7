import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Embedded, startEmbedded } from '../src/db/embedded.ts'
import { waitFor } from '../test/support/wait-for.ts'

/** A PostgreSQL server of its own, which is stopped and crashed while everybody uses it. */
export class ChaosDatabase {
  /** Holds the data, and whatever else a run leaves behind. */
  readonly folder: string
  readonly url: string
  readonly #port: number
  #embedded: Embedded
  restarts = 0

  private constructor(folder: string, embedded: Embedded) {
    this.folder = folder
    this.#embedded = embedded
    this.url = embedded.url
    this.#port = Number(new URL(embedded.url).port)
  }

  static async start(settings: Record<string, string> = {}): Promise<ChaosDatabase> {
    const folder = await mkdtemp(join(tmpdir(), 'inturn-chaos-'))
    try {
      // A crash of the server loses nothing that the system has taken; only the system's own would.
      const quick = { fsync: 'off', max_connections: '200', ...settings }
      return new ChaosDatabase(folder, await startEmbedded({ dataDir: folder, settings: quick }))
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
  }

  async restart(mode: 'immediate' | 'fast', pause: () => Promise<void>): Promise<void> {
    this.restarts++
    if (mode === 'immediate') await this.#crash()
    await this.#embedded.stop()
    await pause().finally(async () => {
      this.#embedded = await startEmbedded({ dataDir: this.folder, port: this.#port })
    })
  }

  async stop({ keep }: { keep: boolean }): Promise<void> {
    await this.#embedded.stop()
    if (!keep) await rm(this.folder, { recursive: true, force: true })
  }

  /** As when the server falls over: no checkpoint, no goodbye. */
  async #crash(): Promise<void> {
    const file = join(this.folder, 'data', 'postmaster.pid')
    const text = await readFile(file, 'utf8')
    process.kill(Number(text.split('\n')[0]), 'SIGQUIT')
    // The last thing that it does is to remove the file.
    await waitFor(() => !existsSync(file), { message: 'the database server has ended' })
  }
}

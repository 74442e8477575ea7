import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { type Embedded, startEmbedded } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { operationData } from '../../src/operations/data/index.ts'
import { dataCheckSql } from '../../src/operations/data-check.ts'
import { waitFor } from './wait-for.ts'

export type RestartableServer = {
  /** Of a migrated database on it. */
  url: string
  /** `fast`: cuts everybody off and says goodbye. `immediate`: as when the server falls over. */
  stop(mode: 'fast' | 'immediate'): Promise<void>
  start(): Promise<void>
}

/** A PostgreSQL server for one test, under one address however often it is stopped and started. */
export async function restartableServer(
  settings: Record<string, string> = {},
): Promise<RestartableServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'inturn-test-'))
  // What the server has written survives its crash; only the machine's own would lose it.
  const quick = { fsync: 'off', shared_buffers: '16MB', ...settings }
  let server: Embedded | undefined
  onTestFinished(async () => {
    await server?.stop()
    await rm(dataDir, { recursive: true, force: true })
  })
  server = await startEmbedded({ dataDir, settings: quick })
  const { url } = server
  await migrate({ databaseUrl: url, generatedSql: dataCheckSql(operationData) })
  return {
    url,
    async stop(mode) {
      if (mode === 'immediate') await quit(join(dataDir, 'data', 'postmaster.pid'))
      await server?.stop()
    },
    async start() {
      server = await startEmbedded({ dataDir, port: Number(new URL(url).port) })
    },
  }
}

/** No checkpoint, no word to anybody. */
async function quit(pidFile: string): Promise<void> {
  const pid = Number((await readFile(pidFile, 'utf8')).split('\n')[0])
  process.kill(pid, 'SIGQUIT')
  await waitFor(() => !isAlive(pid), { message: 'the server has ended' })
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

import { connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

/** A connection string that leads to the same database through a relay of ours. */
export type DatabaseRelay = {
  url: string
  /**
   * Cuts the connection instead of handing on the next answer to a request that contains `asked`, or
   * the next one that itself contains `told`; resolves when that has happened.
   */
  loseAnswer(which: { asked: string } | { told: string }): Promise<void>
  /** From now on nothing comes through, and nobody is told. */
  goSilent(): void
  /** Cuts every connection, also what went silent, and lets new ones through. */
  comeBack(): void
  /** Cuts every connection and lets no new one through, as if who stands before it were dead. */
  die(): void
}

/**
 * A network between dispatcher and database that a test can break in the middle of a request. With
 * `announcing` it tells clients that number as their server process, as poolers do.
 */
export async function relayTo(
  databaseUrl: string,
  { announcing }: { announcing?: number } = {},
): Promise<DatabaseRelay> {
  const url = new URL(databaseUrl)
  const target = { host: url.hostname, port: Number(url.port || 5432) }
  const sockets = new Set<Socket>()
  let silent = false
  let dead = false
  let lose: { asked?: string; told?: string; lost: () => void } | undefined

  const server = createServer((client) => {
    const database = connect(target)
    const both = [client, database]
    if (dead) client.destroy()
    let doomed: (() => void) | undefined
    for (const socket of both) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        // Silence also keeps the end of one side from the other.
        if (!silent) for (const other of both) other.destroy()
      })
    }
    client.on('data', (bytes) => {
      if (silent) return
      if (lose?.asked !== undefined && bytes.includes(lose.asked)) {
        doomed = lose.lost
        lose = undefined
      }
      database.write(bytes)
    })
    let announced = announcing === undefined
    database.on('data', (bytes) => {
      if (silent) return
      if (!announced) announced = announce(bytes, announcing as number)
      if (lose?.told !== undefined && bytes.includes(lose.told)) {
        doomed = lose.lost
        lose = undefined
      }
      if (doomed === undefined) return void client.write(bytes)
      doomed()
      client.destroy()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const destroyAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  onTestFinished(() => {
    destroyAll()
    server.close()
  })
  url.hostname = '127.0.0.1'
  url.port = String((server.address() as { port: number }).port)
  return {
    url: url.href,
    loseAnswer: (which) =>
      new Promise((lost) => {
        lose = { ...which, lost }
      }),
    goSilent() {
      silent = true
    },
    comeBack() {
      silent = false
      destroyAll()
    },
    die() {
      dead = true
      destroyAll()
    },
  }
}

/**
 * Puts another process number into BackendKeyData, which stands among the short messages that end the
 * start of a session and arrive in one piece. False: it is not among these.
 */
function announce(bytes: Buffer, backend: number): boolean {
  let at = 0
  for (; at + 9 <= bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    if (bytes[at] !== 'K'.charCodeAt(0)) continue
    bytes.writeInt32BE(backend, at + 5)
    return true
  }
  return false
}

/**
 * The process beside an embedded PostgreSQL (see embedded.ts): starts it, reports one line, waits
 * until standard input closes, then stops it and removes what was temporary.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { EmbeddedOptions, GuardReport } from './embedded.ts'
import { type Account, findPrograms, serverAccount } from './embedded-programs.ts'

const options = JSON.parse(process.argv[2] ?? '{}') as EmbeddedOptions

const over = new Promise<void>((done) => {
  process.stdin.resume().once('close', done).once('error', done)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, done)
})

const temporary = options.dataDir === undefined
const folder = options.dataDir
  ? resolve(options.dataDir)
  : await mkdtemp(join(tmpdir(), 'inturn-postgres-'))
const data = join(folder, 'data')
const log = join(data, 'server.log')
const passwordFile = join(folder, 'password')
let stopServer: (() => Promise<unknown>) | undefined

try {
  const url = await start()
  report({ url })
  await over
} catch (error) {
  report({ problem: await describe(error) })
} finally {
  await stop()
}
process.exit()

async function start(): Promise<string> {
  await mkdir(folder, { recursive: true })
  const account = await serverAccount(data)
  // The server's account must be able to pass through; the folders inside are closed.
  if (account) await chmod(folder, 0o711)
  const programs = await findPrograms(folder, account)
  const run = (program: string, ...args: string[]) =>
    promisify(execFile)(program, args, { ...account, cwd: folder, windowsHide: true })

  // Before anything is removed or stopped here: it would be somebody else's.
  const status = await run(programs.pg_ctl, 'status', '-D', data).catch(() => undefined)
  if (status) throw new Error(`another server runs in ${folder}: end that one, or choose another`)
  if (options.fresh) {
    for (const path of [data, passwordFile]) await rm(path, { recursive: true, force: true })
  }
  const password = await initialize((...args) => run(programs.initdb, ...args), account)
  stopServer = () =>
    run(programs.pg_ctl, 'stop', '-D', data, '-m', temporary ? 'immediate' : 'fast')
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await freePort())
    const flags = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=`
    try {
      await run(programs.pg_ctl, 'start', '-D', data, '-l', log, '-w', '-o', flags)
      return `postgres://postgres:${password}@127.0.0.1:${port}/postgres`
    } catch (error) {
      // Somebody else may have taken the free port in between.
      if (options.port !== undefined || attempt === 3) throw error
    }
  }
}

/** Creates the data folder unless it is there already; returns the password in either case. */
async function initialize(
  initdb: (...args: string[]) => Promise<unknown>,
  account: Account | undefined,
): Promise<string> {
  const exists = await stat(join(data, 'PG_VERSION')).catch(() => undefined)
  if (exists) return (await readFile(passwordFile, 'utf8')).trim()
  const password = randomBytes(16).toString('hex')
  await mkdir(data, { recursive: true, mode: 0o700 })
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  if (account) for (const path of [data, passwordFile]) await chown(path, account.uid, account.gid)
  const settings = Object.entries(options.settings ?? {}).map(([k, v]) => `--set=${k}=${v}`)
  await initdb(
    `--pgdata=${data}`,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    ...(temporary ? ['--no-sync'] : []),
    ...settings,
  )
  return password
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no free port on 127.0.0.1')
  return address.port
}

async function stop(): Promise<void> {
  await stopServer?.().catch(() => {})
  if (temporary) await rm(folder, { recursive: true, force: true })
}

function report(line: GuardReport): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

/** The error with what the programs printed, and the end of the server's log. */
async function describe(error: unknown): Promise<string> {
  const { message, stderr = '' } = error as Error & { stderr?: string }
  const lines = (await readFile(log, 'utf8').catch(() => '')).trim().split('\n').slice(-5)
  return [message, stderr, ...lines].filter(Boolean).join('\n').trim()
}

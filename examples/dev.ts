import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

type Dev = { databaseUrl: string; stop: () => Promise<void> }

/** Starts `inturn dev`: a database, a provider and a dispatcher that has the tools. In a project of yours: `npx inturn dev`. */
export async function startDev(): Promise<Dev> {
  const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
  const tools = fileURLToPath(new URL('tools.ts', import.meta.url))
  const child = spawn(process.execPath, [main, 'dev', '--data-dir', '.inturn/chat', '--fresh'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, INTURN_LOG_LEVEL: 'warn', INTURN_TOOLS: tools },
    // Ctrl-C is the stop button of the chat, and not the end of its database.
    detached: true,
  })
  process.on('exit', () => child.kill())
  const exited = once(child, 'exit')
  const started = Promise.withResolvers<string>()
  void exited.then(() => started.reject(new Error('inturn dev could not start: see above')))
  let said = ''
  child.stdout.on('data', (bytes) => {
    said += bytes
    const url = /^PostgreSQL +(\S+)$/m.exec(said)?.[1]
    if (url) started.resolve(url)
  })
  return {
    databaseUrl: await started.promise,
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}

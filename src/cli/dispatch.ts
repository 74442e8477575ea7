import type { Command } from 'commander'
import { loadConfig, type SettingName } from '../config.ts'
import { startDispatcher } from '../dispatcher/start.ts'
import { createLogger } from '../log.ts'
import { settingOption } from './setting-option.ts'
import { untilSignal } from './signals.ts'

const providerSettings: readonly SettingName[] = [
  'openaiApiKey',
  'openaiBaseUrl',
  'assistantsApiKey',
  'assistantsBaseUrl',
  'provider',
  'callTimeoutMs',
  'settleMs',
  'assistantsSettleMs',
  'runTimeoutMs',
  'foreignRunMs',
  'holdUnknown',
  'maxAttempts',
  'retryBaseMs',
  'retryMaxMs',
  'retry',
  'maxRuns',
  'laneProbeMs',
]
const toolSettings: readonly SettingName[] = [
  'tools',
  'toolConcurrency',
  'toolDeadlineMs',
  'onToolDeadline',
]
const dispatcherSettings: readonly SettingName[] = [
  'concurrency',
  'streams',
  'streamRetentionMs',
  'sweeps',
  'shutdownMs',
  'logLevel',
  'logContent',
  'pollMs',
  'sweepMs',
  'heartbeatMs',
  'graceMs',
  'leaseMs',
]

export function dispatchCommand(program: Command): void {
  const command = program
    .command('dispatch')
    .description('execute operations: the heads of all lines, one at a time per line')
  for (const name of dispatcherSettings) command.addOption(settingOption(name))
  command.optionsGroup('Tools:')
  for (const name of toolSettings) command.addOption(settingOption(name))
  command.optionsGroup('Provider:')
  for (const name of providerSettings) command.addOption(settingOption(name))
  command.addHelpText('after', notes).action(async () => {
    const config = loadConfig(command.optsWithGlobals(), undefined, ['databaseUrl', 'providers'])
    const log = createLogger({ level: config.logLevel })
    const stopped = Promise.race([untilSignal(), untilOrphaned()])
    const dispatcher = await startDispatcher(config, log)
    const signal = await stopped
    log.info({ signal }, 'stopping: lets running operations finish; a second signal ends at once')
    await dispatcher.stop()
  })
}

const notes = `
Any number of dispatchers may run on one database, on any number of hosts.
A first SIGTERM or Ctrl-C lets running operations finish (--shutdown-ms), a second one ends at once;
neither loses an operation or does one twice.`

/** Resolves when the process that started this one over an IPC channel is gone; never without one. */
function untilOrphaned(): Promise<'disconnect'> {
  return new Promise((resolve) => {
    if (!process.channel) return
    process.once('disconnect', () => resolve('disconnect'))
    // After the listener, which would keep this process alive.
    process.channel.unref()
  })
}

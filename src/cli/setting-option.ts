import { Option } from 'commander'
import { type SettingName, settingsHelp } from '../config.ts'

/** A setting of config.ts as an option. Config itself checks the value and looks into the environment. */
export function settingOption(name: SettingName): Option {
  const { flag, env, text, default: standard } = settingsHelp[name]
  const value = standard === false ? '' : ` <${valueName(name, standard)}>`
  const known = standard === undefined ? '' : `, default ${standard}`
  return new Option(`${flag}${value}`, `${text} (${env}${known})`)
}

function valueName(name: SettingName, standard: unknown): string {
  if (name.endsWith('Ms')) return 'ms'
  if (name.endsWith('Url')) return 'url'
  if (name.endsWith('ApiKey')) return 'key'
  if (name === 'retry') return 'json'
  if (standard === true) return 'true|false'
  if (name === 'tools') return 'file'
  return typeof standard === 'number' || name.startsWith('max') ? 'n' : 'name'
}

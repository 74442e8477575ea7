import { type Command, Option } from 'commander'
import { InturnError } from '../errors.ts'
import {
  listPolicies,
  type Policy,
  type PolicyOfThread,
  type PolicySetting,
  policyOfThread,
  policySettings,
  removePolicy,
  savePolicy,
} from '../store/policies.ts'
import { withDatabase } from './database.ts'
import { UsageError } from './failure.ts'
import { formatTable } from './table.ts'

export function policiesCommand(program: Command): void {
  const policies = program
    .command('policies')
    .description('what may become of threads by themselves: when they expire, are rotated, pruned')
    .option('--json', 'print JSON')
    .addHelpText('after', notes)
    .action((options, command: Command) =>
      withDatabase(command, async (database) => {
        const all = await listPolicies(database)
        console.log(options.json ? JSON.stringify(all) : formatPolicies(all))
      }),
    )
  setCommand(policies)
  removeCommand(policies)
  ofCommand(policies)
}

const notes = `
Without a policy nothing expires, is rotated or deleted. A thread has the policy that it names
(threads.policy), else that of the keys it has, else that of the pattern "any". A change counts at once.

Examples:
  $ inturn policies set users --pattern user --idle-ttl "30 days" --max-messages 500 --carry-over 20
  $ inturn policies set users --idle-ttl null
  $ inturn policies of user:42

The same by SQL: rows of thread_policies.`

/** What each setting takes and does, in the order of the help. */
const told: Record<PolicySetting, [value: string, what: string]> = {
  pattern: ['keys', 'whose threads: user, session, topic, joined by +; none; any'],
  idle_ttl: ['time', 'expires so long after the last operation, like "30 days"'],
  absolute_ttl: ['time', 'expires so long after its provider thread began'],
  on_expiry: ['what', 'archive_and_delete (the default), archive or delete'],
  max_messages: ['n', 'is rotated at so many messages'],
  max_tokens: ['n', 'is rotated at so many tokens'],
  max_age: ['time', 'is rotated at that age'],
  carry_over: ['n', 'begins with the last n messages when it was rotated, 0 to 100'],
  delete_rotated: ['bool', 'what was rotated is deleted at the provider'],
  archive_on_delete: ['bool', 'delete_thread archives before'],
  reopen: ['bool', 'after delete_thread, later operations begin anew'],
  archive_retention: ['time', 'archives are kept so long'],
  operation_retention: ['time', 'final operations are kept so long'],
}

function setCommand(policies: Command): void {
  const set = policies
    .command('set')
    .description('add a policy, or change what is given of one; null takes a setting out')
    .argument('<name>')
  for (const [setting, [value, what]] of Object.entries(told)) {
    set.addOption(new Option(`--${setting.replaceAll('_', '-')} <${value}>`, what))
  }
  set.action((name: string, options: Record<string, string>, command: Command) =>
    withDatabase(command, async (database) => {
      const settings = Object.fromEntries(
        policySettings.flatMap((setting) => {
          const value = options[optionName(setting)]
          return value === undefined ? [] : [[setting, value === 'null' ? null : value]]
        }),
      )
      const isNew = await savePolicy(database, name, settings).catch(explainValue)
      console.log(`${isNew ? 'added' : 'changed'} ${name}`)
    }),
  )
}

const optionName = (setting: string) =>
  setting.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())

/** PostgreSQL reads times and numbers itself. */
function explainValue(error: unknown): never {
  const { code, message } = error as { code?: string; message?: string }
  if (code === '23505') {
    throw new InturnError(
      'policy_pattern_is_taken',
      'Another policy is for these threads already.',
      {
        hint: '"inturn policies" shows which. Take its pattern out first, or change that one.',
      },
    )
  }
  if (code === '23502') throw new UsageError('That setting cannot be null.')
  if (!code?.startsWith('22')) throw error
  throw new UsageError(
    `A setting cannot be read: ${message}.`,
    'Write times like "30 days" or "12 hours", numbers like 500, true or false.',
  )
}

function removeCommand(policies: Command): void {
  policies
    .command('remove')
    .description('remove one; its threads have the next that is for them, or none')
    .argument('<name>')
    .action((name: string, _options, command: Command) =>
      withDatabase(command, async (database) => {
        if (await removePolicy(database, name)) return console.log(`removed ${name}`)
        throw new InturnError('policy_not_found', `There is no policy ${name}.`, {
          hint: '"inturn policies" shows those that exist.',
        })
      }),
    )
}

function ofCommand(policies: Command): void {
  policies
    .command('of')
    .description('which policy counts for a thread, and why')
    .argument('<thread>', 'id of the thread')
    .action((threadId: string, _options, command: Command) =>
      withDatabase(command, async (database) => {
        const found = await policyOfThread(database, threadId)
        if (!found) {
          throw new InturnError('thread_unknown', `There is no row of thread ${threadId}.`, {
            hint: 'It comes with the first start of an operation, or from "inturn thread --user 42".',
          })
        }
        const { json } = command.optsWithGlobals()
        console.log(json ? JSON.stringify(found) : formatPolicyOf(threadId, found))
      }),
    )
}

function formatPolicyOf(threadId: string, { named, keys, policy }: PolicyOfThread): string {
  const has = keys === 'none' ? 'no key' : `the keys ${keys}`
  if (policy === null) return `No policy counts for ${threadId}, which has ${has} and names none.`
  const why =
    named === null ? `it is for the pattern "${policy.pattern}"` : 'the thread names it itself'
  return `${policy.name} counts for ${threadId}, which has ${has}: ${why}.\n\n${formatPolicies([policy])}`
}

function formatPolicies(policies: readonly Policy[]): string {
  if (policies.length === 0)
    return 'There is none: nothing expires, is rotated, deleted or pruned by itself.'
  const rows = policies.map((policy) => [
    policy.name,
    policy.pattern ?? 'who names it',
    expiryOf(policy),
    rotationOf(policy),
    deletionOf(policy),
    listed([
      policy.archive_retention && `archives ${policy.archive_retention}`,
      policy.operation_retention && `operations ${policy.operation_retention}`,
    ]) ?? 'for ever',
  ])
  return formatTable(['POLICY', 'FOR', 'EXPIRES', 'IS ROTATED AT', 'WHEN DELETED', 'KEEPS'], rows)
}

function expiryOf({ idle_ttl, absolute_ttl, on_expiry }: Policy): string | null {
  const when = listed([idle_ttl && `idle ${idle_ttl}`, absolute_ttl && `after ${absolute_ttl}`])
  return when && `${when}: ${on_expiry}`
}

function rotationOf(policy: Policy): string | null {
  const { max_messages, max_tokens, max_age, carry_over, delete_rotated } = policy
  const at = listed([
    max_messages !== null && `${max_messages} messages`,
    max_tokens !== null && `${max_tokens} tokens`,
    max_age,
  ])
  if (at === null) return null
  return `${at}${carry_over > 0 ? `, takes ${carry_over} along` : ''}${delete_rotated ? ', deletes the old' : ''}`
}

const deletionOf = ({ archive_on_delete, reopen }: Policy) =>
  listed([archive_on_delete && 'archived', reopen && 'reopened'])

const listed = (parts: ReadonlyArray<string | null | false>): string | null =>
  parts.filter(Boolean).join(', ') || null

export type DevFacts = {
  databaseUrl: string
  schema: string
  /** Undefined: the data is gone at the end. */
  dataDir: string | undefined
  emulated: boolean
  baseUrl: string | undefined
}

/** What `inturn dev` says when everything runs: what there is, and statements to paste. */
export function devText({ databaseUrl, schema, dataDir, emulated, baseUrl }: DevFacts): string {
  // The emulator starts empty each time and would not know a thread of the last time.
  const thread = `first:${new Date().toTimeString().slice(0, 8).replaceAll(':', '')}`
  const table = schema === 'public' ? 'thread_operations' : `"${schema}".thread_operations`
  return `
PostgreSQL  ${databaseUrl}
            ${dataDir === undefined ? 'temporary, as its account may not enter this folder; --data-dir names another one' : `kept in ${dataDir}, forgotten with --fresh`}
Provider    ${emulated ? `the emulator at ${baseUrl}, which forgets its threads at the end` : (baseUrl ?? 'OpenAI')}

Insert the first row:
psql '${databaseUrl}' -c "INSERT INTO ${table} (thread_id, operation, data) VALUES ('${thread}', 'add_message_and_run', '{\\"message\\": \\"Hi\\", \\"model\\": \\"gpt-4o\\"}')"

Read the answer:
psql '${databaseUrl}' -c "SELECT id, status, result ->> 'text' AS answer, error FROM ${table} WHERE thread_id = '${thread}' ORDER BY id"

Ctrl-C ends all of it.
`
}

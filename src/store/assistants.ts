import type pg from 'pg'

/** What a run on `responses` takes from our `assistants` table. */
export type Assistant = {
  /** As `data.assistant_id` gives it. */
  id: string
  model: string | null
  /** `{id: 'pmpt_…', …}`; an assistant has a model or a prompt. */
  prompt: Record<string, unknown> | null
  instructions: string | null
  tools: ReadonlyArray<Record<string, unknown>> | null
  /** Further run parameters, in the provider's names. */
  parameters: Record<string, unknown>
}

const columns = 'id, model, prompt, instructions, tools, parameters'

export async function findAssistant(pool: pg.Pool, id: string): Promise<Assistant | null> {
  const { rows } = await pool.query<Assistant>({
    text: `select ${columns} from assistants where id = $1`,
    values: [id],
  })
  return rows[0] ?? null
}

export async function listAssistants(pool: pg.Pool): Promise<Assistant[]> {
  const { rows } = await pool.query<Assistant>(`select ${columns} from assistants order by id`)
  return rows
}

/** Adds the assistant, or replaces all of the one that has its id. */
export async function saveAssistant(pool: pg.Pool, assistant: Assistant): Promise<void> {
  const { id, model, prompt, instructions, tools, parameters } = assistant
  await pool.query(
    `insert into assistants (${columns}) values ($1, $2, $3, $4, $5, $6)
     on conflict (id) do update
        set (model, prompt, instructions, tools, parameters, updated_at)
          = (excluded.model, excluded.prompt, excluded.instructions, excluded.tools, excluded.parameters, clock_timestamp())`,
    [
      id,
      model,
      prompt && JSON.stringify(prompt),
      instructions,
      tools && JSON.stringify(tools),
      JSON.stringify(parameters),
    ],
  )
}

/** False: there was none. */
export async function removeAssistant(pool: pg.Pool, id: string): Promise<boolean> {
  const { rowCount } = await pool.query('delete from assistants where id = $1', [id])
  return rowCount === 1
}

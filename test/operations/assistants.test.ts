import { describe, expect } from 'vitest'
import {
  findAssistant,
  listAssistants,
  removeAssistant,
  saveAssistant,
} from '../../src/store/assistants.ts'
import { test } from '../support/database.ts'
import { withTransaction } from '../support/transaction.ts'
import { waitFor } from '../support/wait-for.ts'
import { type Line, runsPath, startLine, who } from './line.ts'

const bodyOf = (line: Line) => JSON.parse(line.sent('POST', runsPath)[0]?.body ?? '')

const pirate = {
  id: 'asst_pirate',
  model: 'gpt-4o-mini',
  prompt: null,
  instructions: 'reply with exactly: Arr',
  tools: [{ type: 'web_search' }],
  parameters: { temperature: 0.2, max_output_tokens: 100 },
}

describe('an assistant on "responses"', () => {
  test('is read again when the database ends the session, and no attempt is burnt', async ({
    pool,
  }) => {
    const line = await startLine(pool, 'responses', { maxAttempts: 1 })
    const id = await withTransaction(pool, async (client) => {
      await client.query('lock table assistants in access exclusive mode')
      const id = await line.insert('cut off', 'add_message_and_run', { message: 'Hi', ...who })
      await waitFor(async () => {
        const { rowCount } = await pool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
            where wait_event_type = 'Lock' and query like '%from assistants%' and datname = current_database()`,
        )
        return rowCount === 1
      })
      return id
    })
    expect(await line.end(id)).toMatchObject({ status: 'completed', attempts: 1, failures: 0 })
  })

  test('is a row of ours, which gives the run its parameters', async ({ pool }) => {
    await saveAssistant(pool, pirate)
    const line = await startLine(pool, 'responses')
    const row = await line.do('row', 'add_message_and_run', {
      message: 'Hi',
      assistant_id: 'asst_pirate',
    })
    expect(row.result).toMatchObject({ text: 'Arr', run: { model: 'gpt-4o-mini' } })
    const { id, prompt, parameters, ...fields } = pirate
    expect(bodyOf(line)).toMatchObject({ ...fields, ...parameters })
    expect(bodyOf(line)).not.toHaveProperty('prompt')
    expect(bodyOf(line)).not.toHaveProperty('assistant_id')
  })

  test('yields to what data says', async ({ pool }) => {
    await saveAssistant(pool, pirate)
    const line = await startLine(pool, 'responses')
    const row = await line.do('data', 'add_message_and_run', {
      message: 'Hi',
      assistant_id: 'asst_pirate',
      instructions: 'reply with exactly: Good day',
      temperature: 1,
    })
    expect(row.result.text).toBe('Good day')
    expect(bodyOf(line)).toMatchObject({ temperature: 1, max_output_tokens: 100 })
  })

  test('may be a prompt of the provider', async ({ pool }) => {
    const prompt = { id: 'pmpt_1', variables: { name: 'Ada' } }
    await saveAssistant(pool, { ...pirate, id: 'asst_prompt', model: null, prompt })
    const line = await startLine(pool, 'responses')
    const row = await line.do('prompt', 'add_message_and_run', {
      message: 'Hi',
      assistant_id: 'asst_prompt',
    })
    expect(row.status).toBe('completed')
    expect(bodyOf(line)).toMatchObject({ prompt })
  })

  test('that has no row fails the operation before anything is sent', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const row = await line.do('nobody', 'add_message_and_run', {
      message: 'Hi',
      assistant_id: 'asst_nobody',
      model: 'gpt-4o',
    })
    expect(row).toMatchObject({ status: 'failed', error: { code: 'assistant_not_found' } })
    expect(row.error.message).toContain('"asst_nobody"')
    expect(row.error.message).toContain('INSERT INTO assistants')
    expect(line.relay.requests).toHaveLength(0)
    const next = await line.do('nobody', 'add_message', { message: 'Hi' })
    expect(next.status).toBe('completed')
  })

  test('is not needed where data names a model', async ({ pool }) => {
    const line = await startLine(pool, 'responses')
    const row = await line.do('model', 'add_message_and_run', { message: 'Hi', model: 'gpt-4.1' })
    expect(row.result.run.model).toBe('gpt-4.1')
  })
})

describe('an assistant on "assistants"', () => {
  test("is the provider's own, also where a row of ours has its id", async ({ pool }) => {
    await saveAssistant(pool, { ...pirate, id: 'asst_0123456789abcdefABCDEFGH' })
    const line = await startLine(pool, 'assistants')
    const assistant_id = 'asst_0123456789abcdefABCDEFGH'
    const row = await line.do('own', 'add_message_and_run', { message: 'Hi', assistant_id })
    expect(row.status).toBe('completed')
    expect(bodyOf(line)).toMatchObject({ assistant_id })
    expect(bodyOf(line)).not.toHaveProperty('instructions')
  })

  test('that the provider does not know fails the operation', async ({ pool }) => {
    const line = await startLine(pool, 'assistants', { emulator: { anyAssistant: false } })
    const row = await line.do('unknown', 'add_message_and_run', { message: 'Hi', ...who })
    expect(row).toMatchObject({ status: 'failed', error: { code: 'assistant_not_found' } })
  })

  test('is needed also where data names a model', async ({ pool }) => {
    const line = await startLine(pool, 'assistants')
    const row = await line.do('none', 'add_message_and_run', { message: 'Hi', model: 'gpt-4o' })
    expect(row).toMatchObject({ status: 'failed', error: { code: 'assistant_missing' } })
    expect(line.relay.requests).toHaveLength(0)
  })
})

test('assistants are saved, replaced, found, listed and removed', async ({ pool }) => {
  await saveAssistant(pool, { ...pirate, id: 'asst_listed' })
  const plain = { ...pirate, id: 'asst_listed', instructions: null, tools: null, parameters: {} }
  await saveAssistant(pool, plain)
  expect(await findAssistant(pool, 'asst_listed')).toEqual(plain)
  expect(await listAssistants(pool)).toContainEqual(plain)
  expect(await removeAssistant(pool, 'asst_listed')).toBe(true)
  expect(await removeAssistant(pool, 'asst_listed')).toBe(false)
  expect(await findAssistant(pool, 'asst_listed')).toBeNull()
})

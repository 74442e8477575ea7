import { describe, expect, it } from 'vitest'
import { ownedParameters, runBody, runParameters } from '../../src/provider/run-parameters.ts'

const refused = (provider: 'assistants' | 'responses', parameters: Record<string, unknown>) => {
  try {
    runBody(provider, parameters, '7')
  } catch (error) {
    return error
  }
  throw new Error('was not refused')
}

describe('the body of a run', () => {
  it('holds the parameters as they are and our tag beside the metadata', () => {
    const parameters = { model: 'm', temperature: 0, metadata: { user: '42' } }
    expect(runBody('responses', parameters, '7')).toEqual({
      ...parameters,
      metadata: { user: '42', inturn_operation: '7' },
    })
  })

  it('takes every parameter that the provider has', () => {
    for (const provider of ['assistants', 'responses'] as const)
      for (const name of runParameters[provider])
        expect(runBody(provider, { [name]: null }, '7')).toHaveProperty(name)
  })

  it('lets provider_options win, and passes on verbatim what nobody here knows', () => {
    const provider_options = { temperature: 1, brand_new: [1, 2], metadata: { a: 'b' } }
    const body = runBody('responses', { temperature: 0, provider_options }, '7')
    expect(body).toEqual({
      temperature: 1,
      brand_new: [1, 2],
      metadata: { a: 'b', inturn_operation: '7' },
    })
  })

  it.each([
    ['assistants', 'text', '"response_format"'],
    ['assistants', 'reasoning', '"reasoning_effort"'],
    ['assistants', 'prompt', '"assistant_id"'],
    ['assistants', 'input', '"additional_messages"'],
    ['assistants', 'service_tier', 'leave it out'],
    ['responses', 'additional_instructions', '"instructions"'],
    ['responses', 'truncation_strategy', '"truncation"'],
    ['responses', 'response_format', '"text"'],
    ['responses', 'assistant_id', '"prompt"'],
  ] as const)('on %s, %s is refused and the right one named', (provider, name, instead) => {
    expect(refused(provider, { [name]: 'x' })).toMatchObject({
      code: 'unsupported_parameter',
      message: expect.stringMatching(new RegExp(`"${name}".*${instead}`)),
      failure: { decision: 'fail', sent: false },
    })
  })

  it('points to provider_options for a parameter that nobody knows', () => {
    expect(refused('responses', { brand_new: 1 })).toMatchObject({
      code: 'unsupported_parameter',
      message: expect.stringContaining('"provider_options"'),
    })
  })

  it.each(ownedParameters)('never takes "%s", which is decided here', (name) => {
    for (const provider of ['assistants', 'responses'] as const) {
      const message = expect.stringContaining(`"${name}" is set by inturn`)
      expect(refused(provider, { [name]: true })).toMatchObject({ message })
      expect(refused(provider, { provider_options: { [name]: true } })).toMatchObject({ message })
    }
  })
})

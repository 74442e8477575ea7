import type { ConversationItem } from 'openai/resources/conversations/items'
import { describe, expect, it } from 'vitest'
import { isSameMessage, toInput, toItem } from '../../src/provider/responses-input.ts'

const item = (role: string, ...content: object[]) =>
  ({ id: 'msg_1', type: 'message', status: 'completed', role, content }) as ConversationItem

describe('a message as a conversation item', () => {
  it('is a user message when it is plain text', () => {
    expect(toItem('Hi')).toEqual({ type: 'message', role: 'user', content: 'Hi' })
  })

  it.each([
    ['user', 'input_text'],
    ['developer', 'input_text'],
    ['assistant', 'output_text'],
  ] as const)('spells text of the %s as %s and leaves other parts alone', (role, type) => {
    const image = { type: 'input_image', image_url: 'https://example.org/a.png' }
    const content = [{ type: 'text', text: 'Hi' }, image]
    expect(toItem({ role, content })).toMatchObject({ content: [{ type, text: 'Hi' }, image] })
  })

  it('refuses attachments and metadata, which items cannot carry', () => {
    const attachments = [{ file_id: 'file_1' }]
    const code = 'unsupported_parameter'
    expect(() => toItem({ content: 'Hi', attachments })).toThrow(/"attachments".*input_file/)
    expect(() => toItem({ content: 'Hi', metadata: { a: 'b' } })).toThrow(/"metadata"/)
    expect(() => toItem({ content: 'Hi', metadata: { a: 'b' } })).toThrow(
      expect.objectContaining({ code, failure: expect.objectContaining({ decision: 'fail' }) }),
    )
    expect(() => toItem({ content: 'Hi', attachments: [], metadata: {} })).not.toThrow()
  })
})

describe('the input of a run', () => {
  it('is its message first, then what the caller adds', () => {
    const output = { type: 'function_call_output', call_id: 'call_1', output: '1' }
    expect(toInput(['Hi'], [output])).toEqual([toItem('Hi'), output])
    expect(toInput(['Hi', 'Hello'], 'And?')).toEqual([
      toItem('Hi'),
      toItem('Hello'),
      toItem('And?'),
    ])
    expect(toInput([], [output])).toEqual([output])
    expect(toInput([], undefined)).toEqual([])
  })
})

describe('recognising a message among items', () => {
  it('goes by role and text, whatever the provider adds', () => {
    const stored = item('user', { type: 'input_text', text: 'Hi' })
    expect(isSameMessage(stored, 'Hi')).toBe(true)
    expect(isSameMessage(stored, { content: [{ type: 'text', text: 'Hi' }] })).toBe(true)
    const written = { type: 'output_text', text: 'Hi', annotations: [], logprobs: [] }
    expect(isSameMessage(item('assistant', written), { role: 'assistant', content: 'Hi' })).toBe(
      true,
    )
  })

  it('takes no other text, role, number of parts or kind of item', () => {
    const text = { type: 'input_text', text: 'Hi' }
    expect(isSameMessage(item('user', text), 'hi')).toBe(false)
    expect(isSameMessage(item('developer', text), 'Hi')).toBe(false)
    expect(isSameMessage(item('user', text, text), 'Hi')).toBe(false)
    const call = { type: 'function_call', call_id: 'c', name: 'f', arguments: '{}' }
    expect(isSameMessage(call as ConversationItem, 'Hi')).toBe(false)
  })

  it('compares parts that are not text by their type', () => {
    const sent = { content: [{ type: 'input_image', image_url: 'data:image/png;base64,AA' }] }
    const stored = { type: 'input_image', image_url: null, file_id: 'file_1', detail: 'auto' }
    expect(isSameMessage(item('user', stored), sent)).toBe(true)
    expect(isSameMessage(item('user', { type: 'input_file' }), sent)).toBe(false)
  })
})

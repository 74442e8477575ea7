import { describe, expect, test } from 'vitest'
import type { StoredItem } from '../../src/model/stored-item.ts'
import { copyable } from '../../src/provider/copyable.ts'
import { options, useProvider } from './use-provider.ts'

const stored = (role: string, content: object[], more: Partial<StoredItem> = {}): StoredItem => ({
  id: 'msg_1',
  type: 'message',
  role,
  text: null,
  content: content as StoredItem['content'],
  attachments: [],
  run_id: null,
  metadata: null,
  said_at: null,
  item: { id: 'msg_1', type: 'message', role, content },
  ...more,
})
const other = (item: { type: string } & Record<string, unknown>): StoredItem => ({
  ...stored('', []),
  type: item.type,
  role: null,
  content: null,
  item,
})

const theirs = { type: 'text', text: { value: 'Hi', annotations: [] } }
const ours = { type: 'input_text', text: 'Hi' }
const picture = { type: 'image_url', image_url: { url: 'https://x.example/1.png', detail: 'low' } }
const file = { type: 'image_file', image_file: { file_id: 'file-1', detail: 'auto' } }
const inputPicture = { type: 'input_image', image_url: 'https://x.example/1.png', detail: 'low' }
const inputFile = { type: 'input_file', file_id: 'file-1' }
const refusal = { type: 'refusal', refusal: 'No.' }
const output = (text: string) => ({ type: 'output_text', text, annotations: [] })

describe('of a message, a conversation takes along', () => {
  test.for([
    ['assistants', 'user', [theirs], [{ type: 'text', text: 'Hi' }], true],
    ['assistants', 'user', [ours], [{ type: 'text', text: 'Hi' }], true],
    ['assistants', 'assistant', [refusal], [{ type: 'text', text: 'No.' }], true],
    [
      'assistants',
      'user',
      [theirs, picture, file],
      [{ type: 'text', text: 'Hi' }, picture, file],
      true,
    ],
    ['assistants', 'user', [ours, inputPicture], [{ type: 'text', text: 'Hi' }, picture], true],
    ['assistants', 'user', [ours, inputFile], [{ type: 'text', text: 'Hi' }], false],
    ['responses', 'user', [theirs], [ours], true],
    ['responses', 'assistant', [theirs], [{ type: 'output_text', text: 'Hi' }], true],
    [
      'responses',
      'assistant',
      [output('Hi'), refusal],
      [{ type: 'output_text', text: 'Hi' }, refusal],
      true,
    ],
    ['responses', 'user', [theirs, picture], [ours, inputPicture], true],
    ['responses', 'user', [theirs, file], [ours], false],
    ['responses', 'user', [ours, inputFile], [ours, inputFile], true],
    ['responses', 'assistant', [theirs, picture], [{ type: 'output_text', text: 'Hi' }], false],
    ['responses', 'system', [ours], [ours], true],
  ] as const)('to %s from %s: %j', ([target, role, content, taken, isWhole]) => {
    const copied = copyable(stored(role, [...content]), target)
    expect(copied).toMatchObject({ kind: 'message', role, isWhole, body: { role, content: taken } })
  })

  test.for([
    ['assistants', stored('system', [ours])],
    ['assistants', stored('user', [{ type: 'input_text', text: '' }])],
    ['assistants', stored('user', [inputFile])],
    ['responses', stored('user', [file])],
    ['responses', stored('user', [])],
    ['responses', stored('critic', [ours])],
  ] as const)('nothing to %s of %j', ([target, item]) => {
    expect(copyable(item, target)).toBeNull()
  })

  test('attachments within Assistants alone', () => {
    const attachments = [{ file_id: 'file-1', tools: [{ type: 'file_search' }] }]
    const item = stored('user', [theirs], { item: { attachments }, attachments: ['file-1'] })
    expect(copyable(item, 'assistants')).toMatchObject({ isWhole: true, body: { attachments } })
    const without = copyable(item, 'responses')
    expect(without?.isWhole).toBe(false)
    expect(without?.body).not.toHaveProperty('attachments')
  })
})

describe('of what is no message, a Conversation takes along', () => {
  test('calls of functions and custom tools and their outputs, without ids of items', () => {
    const call = { type: 'function_call', call_id: 'c', name: 'n', arguments: '{}' }
    expect(copyable(other({ ...call, id: 'fc_1', status: 'completed' }), 'responses')).toEqual({
      kind: 'call',
      role: null,
      text: null,
      callId: 'c',
      isWhole: true,
      body: call,
    })
    const answer = { type: 'custom_tool_call_output', call_id: 'c', output: 'rain' }
    expect(copyable(other({ ...answer, id: 'ctco_1' }), 'responses')).toMatchObject({
      kind: 'output',
      body: answer,
    })
  })

  test.for(['reasoning', 'file_search_call', 'mcp_call', 'computer_call_output'])(
    'no %s',
    (type) => {
      expect(copyable(other({ type, call_id: 'c' }), 'responses')).toBeNull()
    },
  )

  test('and Assistants nothing', () => {
    const call = { type: 'function_call', call_id: 'c', name: 'n', arguments: '{}' }
    expect(copyable(other(call), 'assistants')).toBeNull()
  })
})

describe.each(['responses', 'assistants'] as const)('copyItems on "%s"', (name) => {
  const at = useProvider(name)

  test('adds copies in their order, which read as the originals do', async () => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    const items = [
      stored('user', [theirs, picture], { metadata: { mood: 'calm', inturn_operation: '3' } }),
      stored('assistant', [theirs]),
    ]
    const ids: string[] = []
    for (let i = 0; i < items.length; i += provider.profile.messagesPerCall) {
      const some = items.slice(i, i + provider.profile.messagesPerCall)
      ids.push(...(await provider.copyItems(id, some, `7:${i + 1}`, options)))
    }
    const { items: listed } = await provider.listItems(id, null, options)
    const sorted = listed.toSorted((a, b) => ids.indexOf(a.id) - ids.indexOf(b.id))
    expect(sorted.map((item) => [item.id, item.role, item.text])).toEqual([
      [ids[0], 'user', 'Hi'],
      [ids[1], 'assistant', 'Hi'],
    ])
    expect(sorted[0]?.content).toHaveLength(2)
    if (provider.profile.tags)
      expect(sorted.map(({ metadata }) => metadata)).toEqual([
        { mood: 'calm', inturn_operation: '7:1' },
        { inturn_operation: '7:2' },
      ])
  })
})

import { describe, expect, it } from 'vitest'
import { openCallsAmong } from '../../src/provider/responses-calls.ts'

const idsOf = (items: Array<{ type: string; id?: string; call_id?: string }>) =>
  openCallsAmong(items).map(({ call_id }) => call_id)

describe('the calls of a conversation', () => {
  it('are open until an output bears their call_id, whatever the order of reading', () => {
    const call = { type: 'function_call', call_id: 'a' }
    const other = { type: 'custom_tool_call', call_id: 'b' }
    const output = { type: 'function_call_output', call_id: 'a' }
    expect(idsOf([call, other, output])).toEqual(['b'])
    expect(idsOf([output, other, call])).toEqual(['b'])
    expect(idsOf([call, other])).toEqual(['a', 'b'])
  })

  it('are those of the caller: what the provider does itself has no call_id', () => {
    const hosted = ['web_search_call', 'file_search_call', 'code_interpreter_call', 'mcp_call']
    expect(idsOf(hosted.map((type) => ({ type, id: 'ws_1' })))).toEqual([])
  })

  it('of a local shell are answered under their id', () => {
    const call = { type: 'local_shell_call', id: 'lsh_1', call_id: 'a' }
    expect(idsOf([call])).toEqual(['a'])
    expect(idsOf([call, { type: 'local_shell_call_output', id: 'a' }])).toEqual([])
  })

  it('tell what was asked for', () => {
    const items = [
      { type: 'function_call', call_id: 'a', name: 'f', arguments: '{}' },
      { type: 'custom_tool_call', call_id: 'b', name: 'g', input: 'text' },
      { type: 'computer_call', id: 'cu_1', call_id: 'c', actions: [{ type: 'screenshot' }] },
    ]
    expect(openCallsAmong(items)).toEqual([
      { type: 'function_call', call_id: 'a', name: 'f', arguments: '{}' },
      { type: 'custom_tool_call', call_id: 'b', name: 'g', arguments: 'text' },
      {
        type: 'computer_call',
        call_id: 'c',
        name: 'computer_call',
        arguments: '{"actions":[{"type":"screenshot"}]}',
      },
    ])
  })
})

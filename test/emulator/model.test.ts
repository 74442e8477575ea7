import { expect, test } from 'vitest'
import { defaultModel, type ModelRequest, type Turn } from '../../src/emulator/index.ts'

const ask = (message: string, more: Partial<ModelRequest> = {}) =>
  defaultModel({
    instructions: null,
    history: [{ role: 'user', text: message }],
    tools: [],
    toolChoice: 'auto',
    parallelToolCalls: true,
    ...more,
  })
const tool = (name: string, description = '', properties: object = {}) => ({
  name,
  description,
  parameters: { type: 'object', properties },
})
const user = (text: string): Turn => ({ role: 'user', text })

test.each([
  ['Reply with exactly: worker 3, iteration 7', 'worker 3, iteration 7'],
  ['Please reply with exactly "yes"', 'yes'],
  ['respond exactly: two\nlines', 'two\nlines'],
])('%j is answered with exactly that', (message, text) => {
  expect(ask(message)).toEqual({ text })
})

test('instructions can say what to reply too', () => {
  expect(ask('hello', { instructions: 'Always reply with exactly: moo' })).toEqual({ text: 'moo' })
})

test('what was said earlier is recalled, the latest statement first', () => {
  const history = [
    user('Hello! My name is Ada and so on.'),
    user('my favourite colour is green.'),
    user('Sorry, my favourite colour is blue.'),
    user("What's my favourite colour?"),
  ]
  expect(ask('', { history })).toEqual({ text: 'Your favourite colour is blue.' })
  expect(ask('What is my age?')).toEqual({ text: 'You have not told me your age.' })
})

test.each([
  ['Write a long story about the sea.', 300],
  ['Please write 120 words about tea', 120],
])('%j is answered at length', (message, words) => {
  const reply = ask(message)
  expect('text' in reply && reply.text.split(/\s+/).length).toBe(words)
})

test('any other message is quoted', () => {
  expect(ask('hello there')).toEqual({ text: 'Noted: "hello there"' })
})

test('the function that a message names is called, several if it names several', () => {
  const tools = [tool('read_clock'), tool('open_door'), tool('feed_cat')]
  expect(ask('Use read_clock, then feed_cat.', { tools })).toEqual({
    toolCalls: [
      { name: 'read_clock', arguments: '{}' },
      { name: 'feed_cat', arguments: '{}' },
    ],
  })
  const one = ask('Use read_clock, then feed_cat.', { tools, parallelToolCalls: false })
  expect(one).toMatchObject({ toolCalls: [{ name: 'read_clock' }] })
})

test('the function that a message is about is called with what the message offers', () => {
  const tools = [
    tool('send_email', 'Sends mail', { to: { type: 'string', description: 'email address' } }),
    tool('get_weather', 'Current weather', {
      city: { type: 'string' },
      days: { type: 'integer' },
      unit: { type: 'string', enum: ['celsius', 'fahrenheit'] },
    }),
  ]
  const reply = ask('Do I need an umbrella in New York for 3 days? In fahrenheit', { tools })
  expect(reply).toEqual({
    toolCalls: [
      { name: 'get_weather', arguments: '{"city":"New York","days":3,"unit":"fahrenheit"}' },
    ],
  })
  const mail = ask('Send an email to bob@example.org', { tools })
  expect(mail).toMatchObject({ toolCalls: [{ arguments: '{"to":"bob@example.org"}' }] })
})

test('functions are left alone when nothing needs them, or nothing may', () => {
  const tools = [tool('get_weather', 'Current weather')]
  expect(ask('Tell me a joke.', { tools })).toHaveProperty('text')
  expect(ask('How is the weather?', { tools, toolChoice: 'none' })).toHaveProperty('text')
})

test('a forced function is called whatever was said', () => {
  const tools = [tool('get_weather'), tool('read_clock')]
  expect(ask('hi', { tools, toolChoice: { name: 'read_clock' } })).toMatchObject({
    toolCalls: [{ name: 'read_clock' }],
  })
  expect(ask('hi', { tools, toolChoice: 'required' })).toHaveProperty('toolCalls')
})

test('tool outputs are answered with what they say', () => {
  const history: Turn[] = [
    user('Use read_clock.'),
    { role: 'tool_call', callId: 'call_1', name: 'read_clock', arguments: '{}' },
    { role: 'tool_output', callId: 'call_1', output: 'noon' },
  ]
  expect(ask('', { history, tools: [tool('read_clock')] })).toEqual({
    text: 'According to read_clock: noon',
  })
})

import { describe, expect, it } from 'vitest'
import { startEmulator } from '../../src/emulator/index.ts'
import { startRelay } from './relay.ts'
import { failureOf, messagesPath, options, runsPath, useProvider } from './use-provider.ts'

describe.each(['responses', 'assistants'] as const)('a lost answer of "%s"', (name) => {
  const at = useProvider(name)

  it('does not make a run that may have started start again', async () => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    const before = await provider.lastItem(id, null, options)
    at.relay.loseFrom = ({ method, path }) =>
      method === 'POST' && runsPath.test(path) ? 'event: ' : undefined
    const message = 'reply with exactly: here'
    expect(await failureOf(at.say(id, message, '7'))).toMatchObject({
      code: 'connection_lost',
      decision: 'reconcile',
      sent: true,
    })
    expect(at.sent('POST', runsPath)).toHaveLength(1)

    if (provider.profile.tags) {
      const found = await provider.findRun(id, '7', options)
      expect(await provider.findRun(id, '8', options)).toBeNull()
      expect(await provider.followRun(id, found?.id ?? '', options)).toMatchObject({ text: 'here' })
    } else {
      expect(await provider.findRun(id, '7', options)).toBeNull()
      const find = () => provider.findMessage(id, message, '7', before, options)
      await expect.poll(find, { timeout: 5_000 }).not.toBeNull()
    }
  })

  it('leaves its message to be found, and no other', async () => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    const first = await provider.addMessage(id, 'the same words', '1', options)
    at.relay.loseFrom = ({ method, path }) =>
      method === 'POST' && messagesPath.test(path) ? '' : undefined
    const lost = await failureOf(provider.addMessage(id, 'the same words', '2', options))
    expect(lost).toMatchObject({ decision: 'reconcile', sent: true })
    expect(at.sent('POST', messagesPath)).toHaveLength(2)

    const find = (text: string, tag: string, after: string | null) =>
      provider.findMessage(id, text, tag, after, options)
    const found = await find('the same words', '2', first.id)
    expect(found?.id).toBe(await provider.lastItem(id, null, options))
    expect(found?.id).not.toBe(first.id)
    expect(await find('the same words', '1', null)).toEqual(first)
    expect(await find('other words', '3', first.id)).toBeNull()
    expect(await find('the same words', '3', found?.id ?? null)).toBeNull()
  })

  it('does not hide a message that stands pages away', async () => {
    const { provider } = at
    const { id } = await provider.createThread({}, options)
    const first = await provider.addMessage(id, 'number 0', '0', options)
    for (let n = 1; n <= 105; n++) await provider.addMessage(id, `number ${n}`, `${n}`, options)
    const last = await provider.lastItem(id, null, options)
    const find = (n: number) => provider.findMessage(id, `number ${n}`, `${n}`, null, options)
    expect(await find(0)).toEqual(first)
    expect(await find(105)).toEqual({ id: last })
  })

  it('is given up in time, its outcome unknown', async () => {
    let release = () => {}
    const held = new Promise<undefined>((resolve) => {
      release = () => resolve(undefined)
    })
    const silent = await startEmulator({ onRequest: () => held })
    try {
      const call = at.connect(silent.url).createThread({}, { ...options, timeoutMs: 50 })
      expect(await failureOf(call)).toMatchObject({
        code: 'provider_timeout',
        decision: 'reconcile',
        sent: true,
      })
    } finally {
      release()
      await silent.close()
    }
  })

  it('is none where the call was stopped before: certainly nothing was sent', async () => {
    const call = { ...options, signal: AbortSignal.abort() }
    const expected = { code: 'aborted', decision: 'retry', sent: false }
    expect(await failureOf(at.provider.createThread({}, call))).toMatchObject(expected)
    expect(at.relay.requests).toHaveLength(0)
  })

  it('is none where nobody listens: certainly nothing was sent', async () => {
    const closed = await startRelay(at.emulator.url)
    await closed.close()
    expect(await failureOf(at.connect(closed.url).createThread({}, options))).toMatchObject({
      code: 'provider_unreachable',
      decision: 'retry',
      sent: false,
    })
  })
})

import { expect, test } from 'vitest'
import { faultTable } from '../../src/emulator/faults/table.ts'
import { type Fault, parseFaults, startEmulator } from '../../src/emulator/index.ts'
import { emulated, own } from './emulated.ts'

const coin: Fault = { name: 'overloaded', on: 'conversations.create', probability: 0.5 }

/** Which of 40 requests a plan strikes. */
async function struck(faults: Fault[], seed: number): Promise<string> {
  const { client } = await emulated({ faults, seed })
  let marks = ''
  for (let i = 0; i < 40; i++)
    marks += await client.conversations.create().then(
      () => '.',
      () => 'x',
    )
  return marks
}

test('the same seed strikes the same requests, another seed others', async () => {
  const marks = await struck([coin], 7)
  expect(marks).toMatch(/x.*\..*x/)
  expect(await struck([coin], 7)).toBe(marks)
  expect(await struck([coin], 8)).not.toBe(marks)
})

test('what other faults do changes nothing in the draws of a fault', async () => {
  const marks = await struck([coin], 7)
  expect(await struck([coin, { name: 'reset_after_commit', probability: 0.0001 }], 7)).toBe(marks)
})

test('a fault with a count stops when it is used up', async () => {
  expect(await struck([{ name: 'overloaded', times: 3 }], 1)).toBe('xxx'.padEnd(40, '.'))
})

test('of two faults that fit, the first strikes', async () => {
  const { client, emulator } = await emulated({
    faults: [{ name: 'overloaded', times: 1 }, { name: 'forbidden' }],
  })
  await expect(client.conversations.create()).rejects.toThrow('503')
  await expect(client.conversations.create()).rejects.toThrow('403')
  expect(emulator.faults.faults).toEqual([
    { name: 'overloaded', probability: 1, times: 1, fired: 1 },
    { name: 'forbidden', probability: 1, fired: 1 },
  ])
})

test('a plan can be set, read and ended over HTTP, without a key', async () => {
  const { emulator, client } = await emulated({ seed: 3 })
  const faults = [{ name: 'overloaded', on: ['create'], times: 2 }]
  const set = await own(emulator, 'PUT', '/emulator/faults', { faults, seed: 9 })
  expect(set).toEqual({
    status: 200,
    body: { seed: 9, faults: [{ ...faults[0], probability: 1, fired: 0 }] },
  })
  await expect(client.conversations.create()).rejects.toThrow('503')
  const read = await own(emulator, 'GET', '/emulator/faults')
  expect(read.body.faults[0].fired).toBe(1)
  expect(read.body).toEqual(emulator.faults)
  const ended = await own(emulator, 'DELETE', '/emulator/faults')
  expect(ended.body).toEqual({ seed: 9, faults: [] })
  await client.conversations.create()
  // What has happened is not forgotten with the plan.
  expect((await own(emulator, 'GET', '/emulator/stats')).body.faults).toEqual({ overloaded: 1 })
})

test('a bad plan is refused with every problem at once, and the old one stays', async () => {
  const { emulator } = await emulated({ faults: [coin] })
  const put = async (body: unknown) => {
    const { status, body: answer } = await own(emulator, 'PUT', '/emulator/faults', body)
    expect(status).toBe(400)
    expect(answer.error.code).toBe('faults_invalid')
    return answer.error.message.split('\n')
  }
  const faults = [
    { name: 'timeout_after_commit', probability: 2, ms: 1.5 },
    { name: 'stuck_queued', on: 'items.create', probabilty: 0.1 },
    { name: 'rate_limit', on: 'run.create', retryAfter: 1, times: 0 },
    { name: 'rate_limit', retryAfter: 1, retryAfterMs: 1 },
    { name: 'read_lag', ms: 5, atLeastMs: 10 },
    'overloaded',
    {},
  ]
  const problems = await put({ faults })
  expect(problems).toHaveLength(10)
  const expected = [
    'faults[0].probability: write a number above 0 and up to 1',
    'faults[0].ms: write milliseconds, a whole number from 0 to 3600000',
    "faults[1].on: it cannot strike 'items.create': write runs.create, threads.create_and_run",
    'faults[1].probabilty: there is no such setting: write on, thread, probability, times, ms',
    "faults[2].on: 'run.create' is no route kind: did you mean 'runs.create'?",
    'faults[2].times: write a whole number from 1',
    'faults[3]: write retryAfter or retryAfterMs, not both',
    'faults[4].atLeastMs: write at most 5, the longest delay',
    'faults[5]: write an object like {"name": "overloaded"}',
    'faults[6].name: write one of reset_before_commit, ',
  ]
  for (const start of expected) expect(problems).toContainEqual(expect.stringContaining(start))
  expect((await put({ faults: [{ name: 'reset' }] }))[0]).toContain(
    "faults[0].name: 'reset' is no fault: did you mean reset_before_commit or reset_after_commit?",
  )
  expect(await put([])).toEqual(['write {"faults": […], "seed": 1}'])
  expect(await put({ seed: 'x' })).toEqual([
    'faults: write a list of faults, like [{"name": "overloaded"}]',
    'seed: write a whole number',
  ])
  expect(emulator.faults.faults).toMatchObject([coin])
})

test('a bad plan in code is refused too, before anything is served', async () => {
  const bad = [{ name: 'lag' }] as unknown as Fault[]
  await expect(startEmulator({ faults: bad })).rejects.toMatchObject({ code: 'faults_invalid' })
  const { emulator } = await emulated()
  expect(() => emulator.setFaults(bad)).toThrow('did you mean read_lag?')
})

test('a fault can be written in one line', () => {
  expect(
    parseFaults([
      'reset_after_commit:runs.create:0.1',
      'rate_limit:3x:runs,responses:retryAfter=2:key=7',
      'stuck_queued:1.5s:thread=thread_1',
      'stream_cut:event=4:silently=true:on=responses.create',
      'late_commit:20ms',
    ]),
  ).toEqual([
    { name: 'reset_after_commit', on: ['runs.create'], probability: 0.1 },
    {
      name: 'rate_limit',
      on: ['runs', 'responses'],
      probability: 1,
      times: 3,
      code: 'rate_limit_exceeded',
      retryAfter: 2,
      key: '7',
    },
    { name: 'stuck_queued', thread: 'thread_1', probability: 1, ms: 1500 },
    { name: 'stream_cut', on: ['responses.create'], probability: 1, event: 4, silently: true },
    { name: 'late_commit', probability: 1, ms: 20 },
  ])
})

test('a line that is no fault is refused with what to write', () => {
  const refused = (...texts: string[]) => {
    try {
      return parseFaults(texts) && []
    } catch (error) {
      return (error as Error).message.split('\n')
    }
  }
  expect(refused('overloaded:0.1:0.2', 'overloaded:items:ms=5')).toEqual([
    "--fault 'overloaded:0.1:0.2': 'probability' is there twice: write it once",
    expect.stringContaining(
      "--fault 'overloaded:items:ms=5', ms: there is no such setting: write on,",
    ),
    expect.stringMatching(/^Write name\[:route,…\]/),
  ])
  expect(refused('')[0]).toContain("--fault '', name: '' is no fault")
  expect(refused('late_commit')[0]).toContain("--fault 'late_commit', ms: write milliseconds")
  expect(refused('overloaded:-1')[0]).toContain('write a number above 0')
})

// After a change of the knobs: `npx vitest run test/emulator/faults-plan.test.ts -u`
test('the page about faults says what the knobs are', async () => {
  await expect(faultTable()).toMatchFileSnapshot('../../docs/faults.md')
})

import { expectTypeOf, test } from 'vitest'
import type {
  Inturn,
  NewOperation,
  OperationHandle,
  OperationKind,
  OperationResult,
  ThreadHandle,
} from '../../src/index.ts'

/** Checked by tsc, never called. */
async function typed(inturn: Inturn): Promise<void> {
  const added = await inturn.enqueue({
    thread: 't',
    operation: 'add_message',
    data: { message: { content: [{ type: 'text', text: 'Hi' }] } },
  })
  expectTypeOf(added).toEqualTypeOf<OperationHandle<'add_message'>>()
  expectTypeOf(await added.result()).toEqualTypeOf<OperationResult>()

  const asked = await inturn.enqueue({
    thread: 't',
    operation: 'add_message_and_run',
    data: { message: 'Hi', assistant_id: 'asst_1', temperature: 1 },
  })
  const { text, run } = await asked.result()
  expectTypeOf(text).toEqualTypeOf<string | null>()
  expectTypeOf(run.id).toEqualTypeOf<string | null>()

  const [first, second] = await inturn.enqueue([
    { thread: 't', operation: 'create_thread', data: {} },
    { thread: 't', operation: 'create_run', data: { model: 'm' } },
  ])
  expectTypeOf(first).toEqualTypeOf<OperationHandle<'create_thread'>>()
  expectTypeOf(second).toEqualTypeOf<OperationHandle<'create_run'>>()

  const collected: NewOperation[] = []
  expectTypeOf(await inturn.enqueue(collected)).toEqualTypeOf<OperationHandle<OperationKind>[]>()
  expectTypeOf(added).toExtend<OperationHandle>()

  // @ts-expect-error an unknown operation
  await inturn.enqueue({ thread: 't', operation: 'add', data: { message: 'Hi' } })
  // @ts-expect-error data of another operation
  await inturn.enqueue({ thread: 't', operation: 'add_message', data: { assistant_id: 'asst_1' } })
  // @ts-expect-error a misspelt field
  await inturn.enqueue({ thread: 't', operation: 'create_run', data: { model: 'm', modle: 'm' } })
  // @ts-expect-error a parameter that inturn sets itself
  await inturn.enqueue({ thread: 't', operation: 'create_run', data: { model: 'm', stream: true } })
  // @ts-expect-error an option under its name in SQL
  await inturn.enqueue({ thread: 't', operation: 'create_thread', data: {}, idempotency_key: 'k' })
  await inturn.enqueue([
    { thread: 't', operation: 'create_thread', data: {} },
    // @ts-expect-error data of another operation, among many
    { thread: 't', operation: 'add_message', data: { model: 'm' } },
  ])
  expectTypeOf(inturn.thread('t')).toEqualTypeOf<ThreadHandle>()
  expectTypeOf(inturn.thread({ user: '42' })).toEqualTypeOf<Promise<ThreadHandle>>()
  // @ts-expect-error a key is text
  await inturn.thread({ user: 42 })
  // @ts-expect-error a key under its name in SQL
  await inturn.threads({ user_id: '42' })
  // @ts-expect-error a message is text or an object with content
  await inturn.thread('t').addMessage(42)
}

test('each operation has its own data and its own result', () => {
  expectTypeOf(typed).toBeFunction()
})

import type { z } from 'zod'
import type { KindInLine } from '../model/operation.ts'
import { addMessage } from './add-message.ts'
import { addMessageAndRun } from './add-message-and-run.ts'
import { archiveThread } from './archive-thread.ts'
import type { Handler } from './context.ts'
import { createRun } from './create-run.ts'
import { createThread } from './create-thread.ts'
import { type OperationData, operationData } from './data/index.ts'
import { deleteThread } from './delete-thread.ts'
import { expireThread } from './expire-thread.ts'
import { forkThread } from './fork-thread.ts'
import { hold } from './hold.ts'
import { despiteReadLag } from './read-lag.ts'
import { restoreThread } from './restore-thread.ts'
import { rotateThread } from './rotate-thread.ts'
import { updateThread } from './update-thread.ts'

const handlers: { [Kind in KindInLine]: Handler<OperationData<Kind>> } = {
  create_thread: createThread,
  add_message: addMessage,
  create_run: createRun,
  add_message_and_run: addMessageAndRun,
  update_thread: updateThread,
  hold,
  archive_thread: archiveThread,
  rotate_thread: rotateThread,
  fork_thread: forkThread,
  restore_thread: restoreThread,
  expire_thread: expireThread,
  delete_thread: deleteThread,
}

/** What `data` of a kind must look like, and who executes it then. */
export function operationOf(kind: KindInLine): {
  schema: z.ZodObject
  handle: Handler<unknown>
} {
  const handle = handlers[kind] as Handler<unknown>
  return {
    schema: operationData[kind],
    handle: (context) => despiteReadLag(context, () => handle(context)),
  }
}

import type { z } from 'zod'
import type { OperationKind } from '../../model/operation.ts'
import { type AddMessage, addMessage } from './add-message.ts'
import { type AddMessageAndRun, addMessageAndRun } from './add-message-and-run.ts'
import { type ArchiveThread, archiveThread } from './archive-thread.ts'
import { type CancelRun, cancelRun } from './cancel-run.ts'
import { type CreateRun, createRun } from './create-run.ts'
import { type CreateThread, createThread } from './create-thread.ts'
import { type DeleteThread, deleteThread } from './delete-thread.ts'
import { type ExpireThread, expireThread } from './expire-thread.ts'
import { type ForkThread, forkThread } from './fork-thread.ts'
import { type Hold, hold } from './hold.ts'
import { type RestoreThread, restoreThread } from './restore-thread.ts'
import { type RotateThread, rotateThread } from './rotate-thread.ts'
import { type SubmitToolOutputs, submitToolOutputs } from './submit-tool-outputs.ts'
import { type UpdateThread, updateThread } from './update-thread.ts'

/** What `data` of each operation may hold: the one source of the types, of zod's check and of the one at the INSERT. */
export const operationData = {
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
  submit_tool_outputs: submitToolOutputs,
  cancel_run: cancelRun,
} satisfies Record<OperationKind, z.ZodObject>

/** `data` as callers write it, per kind of operation. */
export type OperationData<Kind extends OperationKind = OperationKind> = {
  create_thread: CreateThread
  add_message: AddMessage
  create_run: CreateRun
  add_message_and_run: AddMessageAndRun
  update_thread: UpdateThread
  hold: Hold
  archive_thread: ArchiveThread
  rotate_thread: RotateThread
  fork_thread: ForkThread
  restore_thread: RestoreThread
  expire_thread: ExpireThread
  delete_thread: DeleteThread
  submit_tool_outputs: SubmitToolOutputs
  cancel_run: CancelRun
}[Kind]

import { z } from 'zod'
import type { MessageInput } from '../../model/message.ts'
import { message } from './message.ts'

/** Adds a message to the thread, without an answer. */
export const addMessage = z.strictObject({ message }).meta({ examples: [{ message: 'Hi' }] })

export type AddMessage = { message: MessageInput }

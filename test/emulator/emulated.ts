import OpenAI from 'openai'
import { onTestFinished } from 'vitest'
import {
  type Emulator,
  type EmulatorOptions,
  type ModelReply,
  type ModelRequest,
  startEmulator,
} from '../../src/emulator/index.ts'

export const instantly = { queuedMs: 0, thinkMs: 0, perTokenMs: 0 }

/** An emulator without delays and an SDK client that does not retry; both gone after the test. */
export async function emulated(
  options: EmulatorOptions = {},
): Promise<{ emulator: Emulator; client: OpenAI }> {
  const emulator = await startEmulator({ latency: instantly, ...options })
  onTestFinished(() => emulator.close())
  const client = new OpenAI({ apiKey: 'any', baseURL: emulator.url, maxRetries: 0 })
  return { emulator, client }
}

/** A model that answers only when told to, so that a run is active for as long as a test needs. */
export function heldModel() {
  const asked = Promise.withResolvers<ModelRequest>()
  const reply = Promise.withResolvers<ModelReply>()
  return {
    model: (request: ModelRequest) => {
      asked.resolve(request)
      return reply.promise
    },
    /** Resolves when the run has come to think. */
    asked: asked.promise,
    answer: (text: string) => reply.resolve({ text }),
  }
}

/** The error an SDK call ends with. */
export async function refusal(
  call: Promise<unknown>,
): Promise<InstanceType<typeof OpenAI.APIError>> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof OpenAI.APIError) return error
  throw new Error('expected an API error', { cause: error })
}

/** A request as it goes over the wire. */
export async function raw(
  emulator: Emulator,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; headers: Headers; text: string }> {
  const response = await fetch(`${emulator.url}${path}`, {
    method,
    headers: {
      authorization: 'Bearer any',
      'content-type': 'application/json',
      'openai-beta': 'assistants=v2',
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}

/** A request to the emulator's own routes, which want no key. */
export async function own(
  emulator: Emulator,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: any }> {
  const init = body === undefined ? {} : { body: JSON.stringify(body) }
  const response = await fetch(new URL(path, emulator.url), { method, ...init })
  return { status: response.status, body: await response.json() }
}

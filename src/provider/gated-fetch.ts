import { Agent, type Dispatcher, fetch } from 'undici'
import { ProviderError } from './provider-error.ts'

type Fetch = typeof globalThis.fetch
type Handler = Dispatcher.DispatchHandler

/**
 * A fetch that asks `mayCall` at the last moment: when a request has its connection and is about to be
 * written. A process that was stopped while the connection was opening would otherwise send, when it
 * goes on, what others have taken over meanwhile.
 */
export function gatedFetch(mayCall: () => boolean): Fetch {
  const dispatcher = new Agent().compose(
    (dispatch) => (request, handler) => dispatch(request, gated(handler, mayCall)),
  )
  const send = async (url: string, init: object) => {
    try {
      return await fetch(url, { ...init, dispatcher })
    } catch (error) {
      throw error instanceof TypeError && error.cause instanceof ProviderError ? error.cause : error
    }
  }
  return send as unknown as Fetch
}

function gated(handler: Handler, mayCall: () => boolean): Handler {
  return new Proxy(handler, {
    get(target, name) {
      if (name === 'onRequestStart')
        return (...[controller, context]: Parameters<NonNullable<Handler['onRequestStart']>>) => {
          target.onRequestStart?.(controller, context)
          if (!mayCall()) controller.abort(givenUp())
        }
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** A call that was not sent, because it may not be by now. */
export const givenUp = () =>
  new ProviderError({
    code: 'aborted',
    message: 'The call was given up before it was sent.',
    decision: 'retry',
    sent: false,
  })

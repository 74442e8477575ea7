import { ApiError } from '../api-error.ts'
import { invalidUrl } from '../errors.ts'
import type { CheckedFaultOf } from './knobs.ts'

/** The faults that refuse a request before anything happens. */
export const refusingFaults = [
  'server_error_before_commit',
  'rate_limit',
  'insufficient_quota',
  'unauthorized',
  'forbidden',
  'overloaded',
  'assistants_sunset',
] as const

export const serverError = (): ApiError =>
  new ApiError(500, 'The server had an error while processing your request. Sorry about that!')

/** The refusal of a request to `method path`, as the API words it. */
export function refusalBy(
  fault: CheckedFaultOf<(typeof refusingFaults)[number]>,
  method: string,
  path: string,
): ApiError {
  switch (fault.name) {
    case 'server_error_before_commit':
      return serverError()
    case 'rate_limit':
      return new ApiError(429, 'Rate limit reached. Please try again later.', {
        type: fault.code === 'slow_down' ? 'rate_limit_error' : 'requests',
        code: fault.code,
        headers: {
          'x-ratelimit-remaining-requests': '0',
          ...(fault.retryAfter !== undefined && { 'retry-after': String(fault.retryAfter) }),
          ...(fault.retryAfterMs !== undefined && { 'retry-after-ms': String(fault.retryAfterMs) }),
        },
      })
    case 'insufficient_quota':
      return new ApiError(
        429,
        'You exceeded your current quota, please check your plan and billing details.',
        {
          type: fault.code === 'insufficient_quota' ? fault.code : 'invalid_request_error',
          code: fault.code,
        },
      )
    case 'unauthorized':
      return new ApiError(401, 'Incorrect API key provided.', { code: 'invalid_api_key' })
    case 'forbidden':
      return new ApiError(403, 'Country, region, or territory not supported', {
        type: 'request_forbidden',
        code: 'unsupported_country_region_territory',
      })
    case 'overloaded':
      return new ApiError(503, 'The server is currently overloaded. Please try again later.', {
        type: 'service_unavailable_error',
        code: 'server_is_overloaded',
      })
    case 'assistants_sunset':
      return invalidUrl(method, path)
  }
}

import { createHash } from 'node:crypto'

/** How lanes tell API keys apart, also where people read them: never the key itself. */
export const laneKey = (apiKey: string): string =>
  createHash('sha256').update(apiKey).digest('hex').slice(0, 12)

/** A lane as ledger and errors name it; without a model it is the key's. */
export const laneName = (key: string, model: string): string => (model ? `${key}/${model}` : key)

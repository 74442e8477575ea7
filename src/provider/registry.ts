import type { ProviderName } from '../model/thread.ts'
import { assistantsProvider } from './assistants.ts'
import type { ProviderSettings } from './client.ts'
import type { Provider } from './provider.ts'
import { responsesProvider } from './responses.ts'

/** The providers for which there are settings. `mayCall` is asked before every request of theirs. */
export function createProviders(
  settings: Partial<Record<ProviderName, ProviderSettings>>,
  mayCall?: () => boolean,
): Partial<Record<ProviderName, Provider>> {
  const { assistants, responses } = settings
  return {
    ...(assistants && { assistants: assistantsProvider({ mayCall, ...assistants }) }),
    ...(responses && { responses: responsesProvider({ mayCall, ...responses }) }),
  }
}

/** What each route is called, as `noun.verb`: the words that say which requests a fault strikes. */
const kindByRoute = {
  'POST /assistants': 'assistants.create',
  'GET /assistants': 'assistants.list',
  'GET /assistants/:assistant_id': 'assistants.retrieve',
  'POST /assistants/:assistant_id': 'assistants.update',
  'DELETE /assistants/:assistant_id': 'assistants.delete',
  'POST /threads': 'threads.create',
  'POST /threads/runs': 'threads.create_and_run',
  'GET /threads/:thread_id': 'threads.retrieve',
  'POST /threads/:thread_id': 'threads.update',
  'DELETE /threads/:thread_id': 'threads.delete',
  'POST /threads/:thread_id/messages': 'messages.create',
  'GET /threads/:thread_id/messages': 'messages.list',
  'GET /threads/:thread_id/messages/:message_id': 'messages.retrieve',
  'POST /threads/:thread_id/messages/:message_id': 'messages.update',
  'DELETE /threads/:thread_id/messages/:message_id': 'messages.delete',
  'POST /threads/:thread_id/runs': 'runs.create',
  'GET /threads/:thread_id/runs': 'runs.list',
  'GET /threads/:thread_id/runs/:run_id': 'runs.retrieve',
  'POST /threads/:thread_id/runs/:run_id': 'runs.update',
  'POST /threads/:thread_id/runs/:run_id/submit_tool_outputs': 'runs.submit_tool_outputs',
  'POST /threads/:thread_id/runs/:run_id/cancel': 'runs.cancel',
  'GET /threads/:thread_id/runs/:run_id/steps': 'steps.list',
  'GET /threads/:thread_id/runs/:run_id/steps/:step_id': 'steps.retrieve',
  'POST /conversations': 'conversations.create',
  'GET /conversations/:conversation_id': 'conversations.retrieve',
  'POST /conversations/:conversation_id': 'conversations.update',
  'DELETE /conversations/:conversation_id': 'conversations.delete',
  'POST /conversations/:conversation_id/items': 'items.create',
  'GET /conversations/:conversation_id/items': 'items.list',
  'GET /conversations/:conversation_id/items/:item_id': 'items.retrieve',
  'DELETE /conversations/:conversation_id/items/:item_id': 'items.delete',
  'POST /responses': 'responses.create',
  'GET /responses/:response_id': 'responses.retrieve',
  'DELETE /responses/:response_id': 'responses.delete',
  'POST /responses/:response_id/cancel': 'responses.cancel',
  'GET /responses/:response_id/input_items': 'input_items.list',
} as const

type ApiRoute = keyof typeof kindByRoute
export type RouteKind = (typeof kindByRoute)[ApiRoute]

type Nouns<K> = K extends `${infer N}.${string}` ? N : never
type Verbs<K> = K extends `${string}.${infer V}` ? V : never
/** One kind (`runs.create`), or all with one noun (`runs`) or one verb (`list`). */
export type RouteChoice = RouteKind | Nouns<RouteKind> | Verbs<RouteKind>

export const routeKinds: readonly RouteKind[] = Object.values(kindByRoute)

export const nounOf = (kind: RouteKind): string => kind.split('.')[0] as string
export const verbOf = (kind: RouteKind): string => kind.split('.')[1] as string

/** The kinds that a choice stands for; none when it is a word that names nothing. */
export const kindsOf = (choice: string): RouteKind[] =>
  routeKinds.filter((kind) => [kind, nounOf(kind), verbOf(kind)].includes(choice))

export function kindOf(method: string, pattern: string): RouteKind {
  const kind = kindByRoute[`${method} ${pattern}` as ApiRoute]
  if (!kind) throw new Error(`${method} ${pattern} has no kind`)
  return kind
}

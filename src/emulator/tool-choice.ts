import type { ModelRequest, ModelTool } from './model.ts'

/** Words that belong together: a question about an umbrella needs a tool about the weather. */
const topics = [
  'weather temperature forecast rain sunny umbrella wear outside warm cold',
  'food eat meal dinner lunch breakfast hungry',
  'time clock hour timezone',
  'price cost expensive cheap quote',
  'mail email inbox',
].map((words) => words.split(' '))

const tooCommon = new Set(
  'a an and any are at by can call current currently do does for from function get gets give given has have i in is it its just like list make me my name now of on or please right run set should specified tell that the their this to tool use used user users value want we what when where which with you your'.split(
    ' ',
  ),
)

/** The functions to call for `message`: those it names, or else the one it is most about. */
export function neededTools(message: string, request: ModelRequest): ModelTool[] {
  const { tools, toolChoice, parallelToolCalls } = request
  if (toolChoice === 'none' || tools.length === 0) return []
  if (typeof toolChoice === 'object') return tools.filter((tool) => tool.name === toolChoice.name)

  const named = tools.filter((tool) => message.toLowerCase().includes(tool.name.toLowerCase()))
  if (named.length > 0) return parallelToolCalls ? named : named.slice(0, 1)

  const words = subjects(message)
  const scores = tools.map((tool) => relevance(tool, words))
  const best = Math.max(...scores)
  if (best < 2 && toolChoice !== 'required') return []
  return [tools[scores.indexOf(best)] as ModelTool]
}

/** A shared word counts twice in the function's name and once in its description or parameters. */
function relevance(tool: ModelTool, words: ReadonlySet<string>): number {
  const name = subjects(tool.name)
  const about = subjects(`${tool.description} ${JSON.stringify(tool.parameters.properties ?? {})}`)
  let score = 0
  for (const word of words) score += name.has(word) ? 2 : about.has(word) ? 1 : 0
  return score
}

/** The telling words of a text in lower case and singular, each topic under its first word. */
function subjects(text: string): Set<string> {
  const split = text.replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase()
  const found = new Set<string>()
  for (const word of split.match(/\p{L}+/gu) ?? []) {
    if (word.length < 3 || tooCommon.has(word)) continue
    const singular = word.length > 3 ? word.replace(/(?<!s)s$/, '') : word
    found.add(topics.find((topic) => topic.includes(singular))?.[0] ?? singular)
  }
  return found
}

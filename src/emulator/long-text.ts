const asked =
  /\b(?:write|tell|compose|generate|give|create|draft)\b.*\b(?:long|detailed|essay|story|article|novel|\d+ words)\b/is

const words = [
  'It began quietly, as most things do, on a morning that looked like every other.',
  'Nobody had expected much, and so everybody was surprised by how far it went.',
  'There were those who wanted to hurry, and those who would rather have waited.',
  'In the end they agreed on an order, wrote it down, and kept to it.',
  'One after another they came forward, said what they had to say, and sat down again.',
  'Whoever arrived late found a place at the end and a good view of all the rest.',
  'Rain fell for a while, the lamps were lit, and the talk went on without a pause.',
  'By evening the work was done, and it had been done by many hands in turn.',
].flatMap((sentence) => sentence.split(' '))

/** About 300 words, or as many as asked for ("write 500 words about …"); null when the message asks for no long text. */
export function longText(message: string): string | null {
  if (!asked.test(message)) return null
  const wanted = Number(/(\d+) words/i.exec(message)?.[1] ?? 300)
  const length = Math.max(1, Math.min(wanted, 20_000))
  return Array.from({ length }, (_, i) => words[i % words.length]).join(' ')
}

/** A token of the emulator is a word with the white space before it. */
export const tokens = (text: string): string[] => text.match(/\s*\S+(?:\s+$)?/g) ?? []

export const countTokens = (...texts: ReadonlyArray<string | null>): number =>
  texts.reduce((sum, text) => sum + tokens(text ?? '').length, 0)

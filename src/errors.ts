/** Every error that inturn throws on purpose: `code` is for programs, `message` for people, `hint` says what to do. */
export class InturnError extends Error {
  readonly code: string
  readonly hint: string | undefined

  constructor(code: string, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = new.target.name
    this.code = code
    this.hint = options.hint
  }
}

/** Flags or environment are wrong; `message` lists every problem at once. */
export class ConfigError extends InturnError {
  constructor(problems: readonly string[]) {
    super('config_invalid', problems.join('\n'))
  }
}

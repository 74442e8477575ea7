import { InturnError } from '../errors.ts'

/** The operation asks for something that cannot be; it fails with this code and message. */
export class Refusal extends InturnError {}

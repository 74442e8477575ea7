/** Holds a thread until it is killed, and says so: `node holding-process.ts <database url> <thread> <lease in ms>`. */
import { Inturn } from '../../src/index.ts'

const [databaseUrl = '', thread = '', leaseMs] = process.argv.slice(2)
const inturn = new Inturn({ databaseUrl })
await inturn.thread(thread).hold(
  () =>
    new Promise(() => {
      process.stdout.write('held\n')
    }),
  { leaseMs: Number(leaseMs) },
)

/** Gets a thread by its keys many times at once, and adds a message each time: `node getting-process.ts <database url> <keys as JSON> <times>`. */
import { Inturn } from '../../src/index.ts'

const [databaseUrl = '', keys = '{}', times] = process.argv.slice(2)
await using inturn = new Inturn({ databaseUrl })
const threads = await Promise.all(
  Array.from({ length: Number(times) }, async (_, i) => {
    const thread = await inturn.thread(JSON.parse(keys))
    await thread.addMessage(`message ${i} of ${process.pid}`)
    return thread.id
  }),
)
process.stdout.write(JSON.stringify([...new Set(threads)]))

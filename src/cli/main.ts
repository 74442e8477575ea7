#!/usr/bin/env node
// Nothing is imported before the version is known, so that an old Node gets a sentence, not a stack.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `inturn needs Node 22.18 or newer; this is ${process.version}.\n` +
      'In a clone of inturn, "npx inturn" and "npm run" bring one along.\n',
  )
  process.exitCode = 2
} else {
  const { run } = await import('./program.ts')
  process.exitCode = await run(process.argv.slice(2))
}

export {}

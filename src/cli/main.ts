import { Command, CommanderError } from 'commander'
import { asKvidxError } from '../common/errors.ts'

/** Every command and where it lives; only the one that is called is loaded, so that `kvidx get` starts quickly. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import('./run.ts')).runCommand(),
  sidecar: async () => (await import('./sidecar.ts')).sidecarCommand(),
}

const program = new Command('kvidx').description('kvidx databases: run them, use them, back them up').exitOverride()
const called = process.argv[2] ?? ''
for (const name of called in COMMANDS ? [called] : Object.keys(COMMANDS)) program.addCommand(await (COMMANDS[name] as () => Promise<Command>)())

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else {
    const failure = asKvidxError(error)
    process.stderr.write(`kvidx: ${failure.message}\n`)
    process.exitCode = failure.code === 'invalid_parameter' || failure.code === 'invalid_manifest' ? 2 : 1
  }
}

import { Command, CommanderError } from 'commander'
import { VARIABLES } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { SOFTWARE } from '../common/software.ts'
import { COMMANDS } from './commands.ts'
import { EXIT, EXIT_HELP, exitCodeOf } from './exit-code.ts'
import { wasInterrupted } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { fields } from './table.ts'

/** Runs one command line. Returns the exit code; never rejects. */
export async function runCli(args: readonly string[], io: Io): Promise<number> {
  // `kvidx help get` is `kvidx get --help`; help for what does not exist is that command's own error
  const asked = args[0] === 'help' ? args.slice(1, 2) : args
  if (args[0] === 'help' && args[1] === 'environment') {
    await write(io.output, environmentHelp())
    return EXIT.ok
  }
  const called = asked[0]
  const entry = called !== undefined && Object.hasOwn(COMMANDS, called) ? COMMANDS[called] : undefined
  const program = newProgram(io)
  try {
    if (entry) program.addCommand(inherit(await entry.load(io), program))
    else
      for (const [name, { summary, group }] of Object.entries(COMMANDS))
        program.addCommand(inherit(new Command(name), program).description(summary).helpGroup(`${group}:`))
    if (called === undefined) program.outputHelp()
    else await program.parseAsync(entry && args[0] === 'help' ? [...args.slice(1), '--help'] : asked, { from: 'user' })
    // a command that judges its own end says so there
    return typeof process.exitCode === 'number' ? process.exitCode : EXIT.ok
  } catch (error) {
    if (wasInterrupted()) {
      io.notes.write('kvidx: interrupted\n')
      return EXIT.interrupted
    }
    if (!(error instanceof CommanderError)) report(error, io)
    return exitCodeOf(error)
  }
}

function newProgram(io: Io): Command {
  return new Command('kvidx')
    .description('kvidx databases: run them, use them, back them up')
    .usage('<command> [options]')
    .version(SOFTWARE, '--version', 'print the version')
    .helpCommand(false)
    .showHelpAfterError("'kvidx help' lists the commands, 'kvidx help <command>' its options")
    .addHelpText(
      'after',
      `\n'kvidx help <command>' tells the options of a command, 'kvidx help environment' the variables.\n\n${EXIT_HELP}`,
    )
    .exitOverride()
    .configureOutput({
      writeOut: text => void io.output.write(text),
      writeErr: text => void io.notes.write(text),
    })
}

/** Flags win over variables, variables over a configuration file. */
function environmentHelp(): string {
  return fields(Object.fromEntries(Object.entries(VARIABLES).map(([name, { help }]) => [name, help])))
}

/** Commands made elsewhere end and write as the program does. */
function inherit(command: Command, program: Command): Command {
  command.copyInheritedSettings(program)
  for (const child of command.commands) inherit(child, program)
  return command
}

function report(error: unknown, io: Io): void {
  const message = error instanceof Error ? error.message : String(error)
  io.notes.write(`kvidx: ${message}\n`)
  if (!(error instanceof KvidxError)) return
  const { line, record, retryWith, imported } = error.details
  if (typeof retryWith === 'string') io.notes.write(`kvidx: try again with ${flagFor(retryWith)}\n`)
  // a manifest's message has its lines already, and nothing was asked of a database
  // what an import in slices had done before is in its message
  else if (error.code !== 'invalid_manifest' && imported === undefined && (line !== undefined || record !== undefined))
    io.notes.write(`kvidx: nothing was changed (${line === undefined ? `record ${record}` : `line ${line}`})\n`)
}

/** The data API offers parameters; here they are flags. */
function flagFor(offer: string): string {
  return offer === 'atomic=false' ? '--no-atomic' : offer
}

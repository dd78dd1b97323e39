import { Command } from 'commander'
import { type Io, write } from './io.ts'

type Loaders = Readonly<Record<string, { readonly load: (io: Io) => Promise<Command> }>>

/** `kvidx completion`: what makes the Tab key know commands and options. */
export function completionCommand(io: Io, commands: Loaders): Command {
  return new Command('completion')
    .description(
      'print a script that completes commands and options: eval "$(kvidx completion)" in ~/.bashrc (zsh: after autoload -U bashcompinit; bashcompinit)',
    )
    .action(async () => {
      const cases: string[] = []
      for (const [name, { load }] of Object.entries(commands)) {
        const command = name === 'completion' ? new Command(name) : await load(io)
        cases.push(...casesOf(command, name))
      }
      await write(io.output, script(cases, [...Object.keys(commands), 'help']))
    })
}

/** A command and its own commands: patterns of `FIRST SECOND PREVIOUS`, and the words that may follow. */
function casesOf(command: Command, path: string): string[] {
  const cases = command.commands.flatMap(child => casesOf(child, `${path} ${child.name()}`))
  for (const { long, argChoices } of command.options)
    if (long && argChoices) cases.push(`'${path} '*' ${long}') words='${argChoices.join(' ')}' ;;`)
  const words = [...command.commands.map(child => child.name()), ...command.options.map(({ long }) => long), '--help']
  cases.push(`'${path} '*) words='${words.filter(word => word !== undefined).join(' ')}' ;;`)
  return cases
}

const script = (cases: readonly string[], first: readonly string[]): string => `_kvidx() {
  local word=\${COMP_WORDS[COMP_CWORD]} words=
  if [ "$COMP_CWORD" = 1 ]; then words='${first.join(' ')}'; else
    case "\${COMP_WORDS[*]:1:COMP_CWORD-1} \${COMP_WORDS[COMP_CWORD-1]}" in
      'help '*) words='${first.join(' ')}' ;;
      ${cases.join('\n      ')}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _kvidx kvidx
`

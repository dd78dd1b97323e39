import { PassThrough } from 'node:stream'
import type { Command, Option } from 'commander'
import { COMMANDS } from '../../../src/cli/commands.ts'

/** One call of `kvidx` in a document. */
export interface Call {
  /** What follows `kvidx`, up to a pipe, a `;` or the end. */
  readonly words: readonly string[]
  /** As it stands in the document, for messages. */
  readonly text: string
  /** In a sentence: it may leave out what a complete call needs. */
  readonly loose?: true
}

/** Strings of the formats that only look like a call. */
const NO_CALLS: ReadonlySet<string> = new Set(['kvidx backup file v1'])

/** What `kvidx` calls a Markdown document has: in code blocks, and in inline code that begins with it. */
export function callsOf(markdown: string): readonly Call[] {
  const calls: Call[] = []
  const blocks = [...markdown.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
  const shell = blocks.filter(([, language]) => ['', 'sh', 'bash', 'console'].includes(language ?? ''))
  for (const [, , body = ''] of shell)
    for (const line of body.replaceAll('\\\n', ' ').split('\n')) calls.push(...callsOfLine(line))
  const prose = markdown.replaceAll(/^```[\s\S]*?^```$/gm, '')
  for (const [, code = ''] of prose.matchAll(/`([^`\n]+)`/g))
    if ((/^(?:bin\/)?kvidx\s/.test(code) || / -- kvidx /.test(code)) && !NO_CALLS.has(code))
      calls.push(...callsOfLine(code).map((call): Call => ({ ...call, loose: true })))
  return calls
}

function callsOfLine(line: string): readonly Call[] {
  const words = wordsOf(line)
  const calls: Call[] = []
  for (const [index, word] of words.entries()) {
    if (word !== 'kvidx' && word !== 'bin/kvidx') continue
    const before = words[index - 1]
    // the name of a command, not of a container or a directory
    if (before !== undefined && !SEPARATORS.has(before) && before !== '--' && !/^[A-Z_]+=/.test(before)) continue
    const rest = words.slice(index + 1)
    const end = rest.findIndex(next => SEPARATORS.has(next) || next.startsWith('#') || next.startsWith('>'))
    calls.push({ words: end < 0 ? rest : rest.slice(0, end), text: line.trim() })
  }
  return calls
}

const SEPARATORS: ReadonlySet<string> = new Set(['|', '||', '&&', ';', '&', '$(', ')'])

/** Words as a shell sees them: enough for what the documents have. */
export function wordsOf(line: string): readonly string[] {
  const words: string[] = []
  for (const [word] of line.matchAll(
    /'[^']*'|\|\||&&|[|;&)]|\$\(|(?:[^\s'"|;&()$]|"[^"]*"|'[^']*'|\$(?!\())+|"[^"]*"/g,
  ))
    words.push(word.replaceAll(/(['"])(.*?)\1/g, '$2'))
  return words
}

/** What is wrong with a call, or undefined. */
export async function problemOf({ words, loose }: Call): Promise<string | undefined> {
  const [verb, ...rest] = words
  // `kvidx <command>`, `kvidx ...`: a form, not a call
  if (verb === undefined || /^(<.*>|…|\.\.\.|--help)$/.test(verb)) return undefined
  if (verb === 'help') {
    const about = rest[0]
    return about === undefined || about === 'environment' || /^<.*>$/.test(about) || Object.hasOwn(COMMANDS, about)
      ? undefined
      : `there is no command '${about}'`
  }
  const entry = Object.hasOwn(COMMANDS, verb) ? COMMANDS[verb] : undefined
  if (!entry) return `there is no command '${verb}'`
  const io = { input: new PassThrough().end(), output: new PassThrough(), notes: new PassThrough(), watched: false }
  let command: Command = await entry.load(io)
  let left = rest
  while (command.commands.length > 0 && left[0] !== undefined) {
    const child = command.commands.find(candidate => candidate.name() === left[0])
    if (!child) return `'${command.name()}' has no command '${left[0]}'`
    command = child
    left = left.slice(1)
  }
  return problemOfArguments(command, left, loose === true)
}

function problemOfArguments(command: Command, words: readonly string[], loose: boolean): string | undefined {
  const positional: string[] = []
  const given = new Set<Option>()
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string
    if (word === '--help' || word === '-h') return undefined
    if (!word.startsWith('-') || word === '-') {
      positional.push(word)
      continue
    }
    const [flag, inline] = word.startsWith('--') ? word.split('=', 2) : [word]
    const option = command.options.find(({ long, short }) => long === flag || short === flag)
    if (!option) return `'${command.name()}' has no option '${flag}'`
    given.add(option)
    if (!option.required && !option.optional) continue
    const next = words[index + 1]
    const bare = inline === undefined && option.optional && (next === undefined || next.startsWith('-'))
    if (bare) continue
    const value = inline ?? words[++index]
    if (value === undefined) return `'${flag}' wants a value`
    if (option.argChoices && !option.argChoices.includes(value))
      return `'${flag}' is one of ${option.argChoices.join(', ')}, not '${value}'`
  }
  if (loose) return undefined
  const wanting = command.options.find(option => option.mandatory && !given.has(option))
  if (wanting) return `'${command.name()}' needs '${wanting.long}'`
  const most = command.registeredArguments
  if (positional.length > most.length && !most.at(-1)?.variadic)
    return `'${command.name()}' has ${most.length} arguments, not ${positional.length}: ${positional.join(' ')}`
  return undefined
}

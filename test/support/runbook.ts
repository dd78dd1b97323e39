import { readFileSync } from 'node:fs'

const FILE = new URL('../../docs/backup.md', import.meta.url)

/**
 * The code blocks of a procedure of docs/backup.md, in their order: those between `## section` and the next, or of its part `### part` alone.
 * With `''` those before its first part.
 */
export function blocksOf(section: string, part?: string): readonly string[] {
  const whole = between(readFileSync(FILE, 'utf8'), '## ', section)
  const text =
    part === undefined ? whole : part === '' ? (whole.split(/^### /m)[0] ?? '') : between(whole, '### ', part)
  return [...text.matchAll(/^```(?:yaml)?\n([\s\S]*?)^```/gm)].map(([, block]) => block as string)
}

/** The only block of a list that has this. */
export function only(blocks: readonly string[], pattern: RegExp): string {
  const found = blocks.filter(block => pattern.test(block))
  if (found.length !== 1) throw new Error(`docs/backup.md: ${found.length} blocks like ${pattern}, not one`)
  return found[0] as string
}

/** Puts a test's own values in the place of the documented ones. Each must be there, so that a text that changes is noticed. */
export function filledIn(block: string, values: Readonly<Record<string, string>>): string {
  let text = block
  for (const [documented, own] of Object.entries(values)) {
    if (!text.includes(documented)) throw new Error(`docs/backup.md: no '${documented}' in:\n${block}`)
    text = text.replaceAll(documented, own)
  }
  return text
}

function between(text: string, mark: string, title: string): string {
  const [, rest] = `\n${text}`.split(`\n${mark}${title}\n`)
  if (rest === undefined) throw new Error(`docs/backup.md has no '${mark}${title}'`)
  return rest.split(`\n${mark}`)[0] as string
}

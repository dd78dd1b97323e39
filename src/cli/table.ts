/** Text for people: columns, and bytes that may be anything. */

/** Names and values, one a line; what is undefined is left out. */
export function fields(values: Readonly<Record<string, unknown>>): string {
  const known = Object.entries(values).filter(([, value]) => value !== undefined)
  const width = Math.max(0, ...known.map(([name]) => name.length))
  return known.map(([name, value]) => `${name.padEnd(width)}  ${String(value)}\n`).join('')
}

/** One line of cells; a cell that is too wide pushes the rest. */
export function row(cells: readonly string[], widths: readonly number[]): string {
  return `${cells
    .map((cell, index) => cell.padEnd(widths[index] ?? 0))
    .join('  ')
    .trimEnd()}\n`
}

/** Lines of cells below their titles, each column as wide as its widest. */
export function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const widths = head.map((title, index) => Math.max(title.length, ...lines.map(line => line[index]?.length ?? 0)))
  return [head, ...lines].map(line => row(line, widths)).join('')
}

/** The beginning of data: as text where it is printable text, else in hex. */
export function preview(data: Uint8Array, most = 48): string {
  const text = utf8(data.subarray(0, most * 4))
  if (text !== undefined) return text.length <= most ? text : `${text.slice(0, most - 1)}…`
  const hex = Buffer.from(data.subarray(0, most / 2 - 2)).toString('hex')
  return data.length <= most / 2 - 2 ? `0x${hex}` : `0x${hex}…`
}

function utf8(data: Uint8Array): string | undefined {
  let text: string
  try {
    // a character cut by the end of the piece is no damage
    text = new TextDecoder('utf-8', { fatal: true }).decode(data, { stream: true })
  } catch {
    return undefined
  }
  // control characters could do anything to a terminal
  return /[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/u.test(text) ? undefined : text
}

/** Unix milliseconds as RFC 3339, or as they are when they lie beyond what a date can be. */
export function instant(ms: string): string {
  const date = new Date(Number(ms))
  return Number.isNaN(date.getTime()) ? `${ms} ms` : date.toISOString()
}

/**
 * What we need of S3's XML answers: flat lists of elements without attributes that matter and without nesting of equal
 * names. Everything else is ignored, as the S3 reference asks of clients.
 */

/** Inner text of every `<name>` element. */
export function elements(xml: string, name: string): string[] {
  const found: string[] = []
  const pattern = new RegExp(`<${name}(?:\\s[^>]*)?>([\\s\\S]*?)</${name}>`, 'g')
  for (const match of xml.matchAll(pattern)) found.push(match[1] ?? '')
  return found
}

/** Decoded text of the first `<name>` element. */
export function text(xml: string, name: string): string | undefined {
  const [first] = elements(xml, name)
  return first === undefined ? undefined : decodeEntities(first)
}

const NAMED: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

function decodeEntities(raw: string): string {
  return raw.replace(
    /&(?:#x([0-9a-f]+)|#([0-9]+)|([a-z]+));/gi,
    (whole, hex?: string, decimal?: string, name?: string) => {
      if (name !== undefined) return NAMED[name] ?? whole
      const code = hex !== undefined ? Number.parseInt(hex, 16) : Number.parseInt(decimal ?? '', 10)
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole
    },
  )
}

export function encodeEntities(value: string): string {
  return value.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`)
}

/** Whether the document ends with the end of its root element: a body may be cut although its length is as announced. */
export function isWhole(xml: string): boolean {
  const [, root, only] = /^\uFEFF?\s*(?:<\?[^>]*\?>\s*)?<([\w:.-]+)(?:[^>]*(\/)>\s*$)?/.exec(xml) ?? []
  return root !== undefined && (only !== undefined || xml.trimEnd().endsWith(`</${root}>`))
}

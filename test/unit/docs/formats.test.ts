import { globSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

const headings = [...readFileSync('docs/formats.md', 'utf8').matchAll(/^## (\d+)\. (.+)$/gm)].map(match => ({
  number: Number(match[1]),
  anchor: `${match[1]}-${(match[2] as string)
    .toLowerCase()
    .replaceAll(/[^\w -]/g, '')
    .replaceAll(' ', '-')}`,
}))

describe('docs/formats.md', () => {
  it('numbers its sections one after another', () => {
    expect(headings.map(({ number }) => number)).toEqual(headings.map((_, index) => index + 1))
  })

  it('has every section that code and documents name', () => {
    const numbers = new Set(headings.map(({ number }) => number))
    const anchors = new Set(headings.map(({ anchor }) => anchor))
    let found = 0
    for (const file of globSync(['{src,sidecar,scripts}/**/*.ts', '*.md', 'docs/**/*.md'])) {
      for (const [whole, number, anchor] of readFileSync(file, 'utf8').matchAll(
        /formats\.md(?:, section (\d+)|#([\w-]+))/g,
      )) {
        found++
        const known = number === undefined ? anchors.has(anchor as string) : numbers.has(Number(number))
        expect(known, `${file}: ${whole}`).toBe(true)
      }
    }
    expect(found).toBeGreaterThan(10)
  })
})

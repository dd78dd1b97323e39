// Writes crds/ from the schemas in src/api.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { crdFileName, renderCrd } from '../src/api/crd-file.ts'
import { KINDS } from '../src/api/kinds.ts'

const directory = fileURLToPath(new URL('../crds/', import.meta.url))
mkdirSync(directory, { recursive: true })
const wanted = new Map(KINDS.map(kind => [crdFileName(kind), renderCrd(kind)]))
for (const name of readdirSync(directory))
  if (name.endsWith('.yaml') && !wanted.has(name)) rmSync(`${directory}${name}`)
for (const [name, text] of wanted) {
  writeFileSync(`${directory}${name}`, text)
  console.log(`crds/${name}: ${Buffer.byteLength(text)} bytes`)
}

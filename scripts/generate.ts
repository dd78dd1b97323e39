// Writes crds/ from the schemas in src/api, the chart's copies of them, and the install file.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { crdFileName, renderCrd } from '../src/api/crd-file.ts'
import { KINDS } from '../src/api/kinds.ts'
import { copyCrdsToChart } from './chart-crds.ts'
import { writeInstallFile } from './install-file.ts'

const directory = fileURLToPath(new URL('../crds/', import.meta.url))
mkdirSync(directory, { recursive: true })
const wanted = new Map(KINDS.map(kind => [crdFileName(kind), renderCrd(kind)]))
for (const name of readdirSync(directory))
  if (name.endsWith('.yaml') && !wanted.has(name)) rmSync(`${directory}${name}`)
for (const [name, text] of wanted) {
  writeFileSync(`${directory}${name}`, text)
  console.log(`crds/${name}: ${Buffer.byteLength(text)} bytes`)
}
copyCrdsToChart()
try {
  await writeInstallFile()
} catch (error) {
  // Helm comes with the test cluster (npm run cluster:build); the end-to-end tests find a stale file
  console.warn(`charts/install.yaml was not rendered: ${error instanceof Error ? error.message : error}`)
}

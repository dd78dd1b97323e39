// The chart's copies of crds/, made by `npm run generate`. Helm can only read files inside of a chart, and a link to the folder would be
// lost by tools that package charts from Git without following links.
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

const source = fileURLToPath(new URL('../crds/', import.meta.url))
const target = fileURLToPath(new URL('../charts/kvidx-operator/files/crds/', import.meta.url))

const read = (directory: string): Map<string, string> =>
  new Map(
    globSync(`${directory}*.yaml`)
      .toSorted()
      .map(path => [basename(path), readFileSync(path, 'utf8')]),
  )

/** The definitions, by file name: as generated, and as the chart has them. */
export function chartCrds(): { readonly generated: Map<string, string>; readonly inChart: Map<string, string> } {
  return { generated: read(source), inChart: read(target) }
}

/** Makes the chart's copies equal to crds/. */
export function copyCrdsToChart(): void {
  rmSync(target, { recursive: true, force: true })
  mkdirSync(target, { recursive: true })
  for (const [name, text] of chartCrds().generated) writeFileSync(`${target}${name}`, text)
}

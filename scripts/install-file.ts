// `npm run install-file`: renders charts/install.yaml, for `kubectl apply -f` without Helm, from the chart. With --check it only compares.
import { readFileSync, writeFileSync } from 'node:fs'
import { clusterEnvironment } from './cluster-tools.ts'
import { run } from './run.ts'

const FILE = 'charts/install.yaml'
const NAMESPACE = `apiVersion: v1
kind: Namespace
metadata:
  name: kvidx-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
`

/** The text of the file. Throws when Helm is missing or refuses the chart. */
export async function renderInstallFile(): Promise<string> {
  const env = { ...process.env, ...(await clusterEnvironment()) }
  const args = ['template', 'kvidx-operator', 'charts/kvidx-operator', '--namespace', 'kvidx-system', '--skip-tests']
  const { code, stdout } = await run('helm', args, { capture: true, env })
  if (code !== 0) throw new Error(`helm template: exit code ${code}`)
  const objects = stdout
    // nothing of this is Helm's once kubectl has applied it
    .replaceAll(/^ +(app\.kubernetes\.io\/managed-by: Helm|helm\.sh\/chart: .*|helm\.sh\/resource-policy: .*)\n/gm, '')
    .replaceAll(/^ +annotations:\n(?! {4,})/gm, '')
    .replaceAll(/^# Source: .*\n/gm, '')
    .split(/^---\n/m)
    .map(text => text.trim())
    .filter(text => text !== '')
    .toSorted((a, b) => rank(a) - rank(b))
  const heading =
    '# Generated from charts/kvidx-operator by `npm run install-file`; do not edit. The image must exist where your nodes look for it.\n'
  return `${heading}${[NAMESPACE.trim(), ...objects].join('\n---\n')}\n`
}

/** Definitions first, so that one `kubectl apply` suffices; the rest as Helm ordered it. */
function rank(text: string): number {
  return text.includes('kind: CustomResourceDefinition') ? 0 : 1
}

/** Writes it. */
export async function writeInstallFile(): Promise<void> {
  writeFileSync(FILE, await renderInstallFile())
}

if (import.meta.main) {
  if (!process.argv.includes('--check')) await writeInstallFile()
  else if (readFileSync(FILE, 'utf8') !== (await renderInstallFile())) {
    console.error(`${FILE} is not what the chart renders now (npm run install-file)`)
    process.exitCode = 1
  }
}

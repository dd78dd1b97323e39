// `npm run test:e2e [-- OPTIONS] [-- VITEST ARGUMENTS]`: the program on a real Kubernetes, from image to uninstall.
//   without options    builds the image, uses the test cluster that runs (npm run cluster:up), or starts one with two nodes and stops it
//   --image TAG        with KUBECONFIG set: that cluster, and an image that its nodes can get
//   --keep             leaves chart and cluster as they are in the end
// The last line is `N passed, N failed`.
import { relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { CLUSTER, clusterEnvironment, clusterRuns } from './cluster-tools.ts'
import { buildImage, DEFAULT_TAG } from './image.ts'
import { must, run } from './run.ts'
import { brokenFiles, runVitest } from './vitest-report.ts'

const NAMESPACE = 'kvidx-system'
const RELEASE = 'kvidx-operator'
const NODES = 2

const { values: options, positionals } = parseArgs({
  options: { image: { type: 'string' }, keep: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const existing = Boolean(process.env.KUBECONFIG) && options.image !== undefined
const image = options.image ?? DEFAULT_TAG

const laps: string[] = []
let lapBegan = performance.now()
function lap(what: string): void {
  const now = performance.now()
  laps.push(`${seconds(now - lapBegan)}  ${what}`)
  lapBegan = now
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1).padStart(7)} s`
}

let passed = 0
let failed = 0
let startedCluster = false
/** What could stay of a cluster on this machine, before it was started. */
let tracesBefore: readonly string[] = []
let env: NodeJS.ProcessEnv = process.env

const obstacle = await whyNot()
if (obstacle) {
  console.log(`SKIPPED: the end-to-end tests did not run: ${obstacle}`)
  if (process.env.CI === 'true') failed = 1
} else {
  // Ctrl-C ends what runs at the moment; what was started is still taken down
  let interrupted = false
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      interrupted = true
    })
  }
  try {
    await prepare()
    if (!interrupted) await install()
    if (!interrupted) await test()
  } catch (error) {
    failed += 1
    console.error(error instanceof Error ? error.message : error)
  }
  if (interrupted) failed += 1
  if (failed > 0 && (existing || env !== process.env)) await diagnose()
  if (!options.keep) await takeDown()
}
if (laps.length > 0) console.log(`\n${laps.join('\n')}`)
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

/** What this machine lacks, or undefined. */
async function whyNot(): Promise<string | undefined> {
  if (existing) return undefined
  if (process.env.KUBECONFIG && !process.env.KUBECONFIG.includes('kvidx-test-cluster')) {
    return 'KUBECONFIG names a cluster; to use it, say with --image which image its nodes can get (or unset KUBECONFIG)'
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return `the test cluster needs Linux on x86-64, this is ${process.platform} on ${process.arch}`
  }
  if (process.getuid?.() !== 0) return 'the test cluster needs root (network namespaces, mounts)'
  if (await clusterEnvironment()) return undefined // built already
  const { code } = await run('go', ['version'], { quiet: true })
  return code === 0
    ? undefined
    : 'the test cluster is built with Go, which is not installed (https://go.dev/dl, 1.26 or newer)'
}

async function prepare(): Promise<void> {
  if (existing) return
  if (await clusterRuns()) {
    console.log('using the test cluster that runs')
    await buildImage(image)
    lap('image')
  } else {
    await must(CLUSTER, ['deps'])
    await must(CLUSTER, ['build'])
    lap('Kubernetes (nothing to do when built before)')
    await buildImage(image)
    lap('base images and image')
    tracesBefore = await traces()
    startedCluster = true
    await must(CLUSTER, ['up', '--nodes', String(NODES)])
    lap(`cluster with ${NODES} nodes`)
  }
  env = { ...process.env, ...(await clusterEnvironment()) }
}

async function install(): Promise<void> {
  const colon = image.lastIndexOf(':')
  const labels = ['enforce', 'warn'].map(mode => `pod-security.kubernetes.io/${mode}=restricted`)
  await run('kubectl', ['create', 'namespace', NAMESPACE], { env, quiet: true })
  await must('kubectl', ['label', '--overwrite', 'namespace', NAMESPACE, ...labels], { env })
  const values = [`image.repository=${image.slice(0, colon)}`, `image.tag=${image.slice(colon + 1)}`]
  const args = ['upgrade', '--install', RELEASE, 'charts/kvidx-operator', '--namespace', NAMESPACE]
  const { code } = await run('helm', ['status', RELEASE, '--namespace', NAMESPACE], { env, quiet: true })
  await must('helm', [...args, ...values.flatMap(value => ['--set-string', value]), '--wait', '--timeout', '120s'], {
    env,
  })
  if (code === 0) {
    // the image has new content under its old tag, which no Deployment notices
    const deployment = ['--namespace', NAMESPACE, 'rollout']
    await must('kubectl', [...deployment, 'restart', `deployment/${RELEASE}`], { env })
    await must('kubectl', [...deployment, 'status', `deployment/${RELEASE}`, '--timeout=120s'], { env })
  }
  lap('chart installed, operator ready')
}

async function test(): Promise<void> {
  const variables = {
    KVIDX_E2E_IMAGE: image,
    KVIDX_E2E_OPERATOR_NAMESPACE: NAMESPACE,
    KVIDX_E2E_CLUSTER: existing ? '' : resolve(CLUSTER),
    KVIDX_E2E_AUDIT_LOG: existing ? '' : await auditLog(),
  }
  const { code, files } = await runVitest(['--config', 'vitest.e2e.config.ts', ...positionals], {
    reporter: 'verbose',
    env: { ...env, ...variables },
  })
  lap('tests')
  for (const { name, startTime, endTime, assertionResults } of files.toSorted(byStart))
    laps.push(`${seconds(endTime - startTime)}    ${relative('.', name)}: ${assertionResults.length} tests`)
  const tests = files.flatMap(({ assertionResults }) => assertionResults)
  const skipped = tests.filter(({ status }) => status !== 'passed' && status !== 'failed')
  for (const { fullName } of skipped) console.log(`SKIPPED: ${fullName}`)
  passed += tests.filter(({ status }) => status === 'passed').length
  failed += tests.filter(({ status }) => status === 'failed').length + brokenFiles(files).length
  if (process.env.CI === 'true') failed += skipped.length
  if (code !== 0 && failed === 0) failed = 1
}

function byStart(a: { readonly startTime: number }, b: { readonly startTime: number }): number {
  return a.startTime - b.startTime
}

async function traces(): Promise<readonly string[]> {
  return (await must(CLUSTER, ['traces'], { capture: true })).trim().split('\n')
}

async function auditLog(): Promise<string> {
  return (await must(CLUSTER, ['logs', '--path', 'audit'], { capture: true })).trim()
}

/** What somebody who reads a failed run in a log will want to know. */
async function diagnose(): Promise<void> {
  console.log('\n---- state of the cluster')
  for (const args of [
    ['get', 'pods', '-A', '-o', 'wide'],
    ['get', 'kvdb,kvbak,kvres', '-A'],
    ['-n', NAMESPACE, 'describe', 'pods', '-l', 'app.kubernetes.io/component=operator'],
    ['-n', NAMESPACE, 'logs', '-l', 'app.kubernetes.io/component=operator', '--tail=100', '--prefix'],
    ['get', 'events', '-A', '--sort-by=.lastTimestamp'],
  ]) {
    await run('kubectl', [...args, '--request-timeout=10s'], { env, label: 'kubectl' })
  }
  if (!existing) await run(CLUSTER, ['status'], { label: 'cluster' })
}

async function takeDown(): Promise<void> {
  if (startedCluster) {
    const { code } = await run(CLUSTER, ['down'])
    if (code !== 0) failed += 1
    lap('cluster stopped')
    const after = await traces()
    const changed = [
      ...tracesBefore.filter(line => !after.includes(line)).map(line => `  gone: ${line}`),
      ...after.filter(line => !tracesBefore.includes(line)).map(line => `  new: ${line}`),
    ]
    if (changed.length === 0) passed += 1
    else failed += 1
    console.log([`traces of the cluster after it was stopped: ${changed.length}`, ...changed].join('\n'))
  } else if (env !== process.env || existing) {
    await run('helm', ['uninstall', RELEASE, '--namespace', NAMESPACE, '--wait', '--ignore-not-found'], { env })
    lap('chart uninstalled')
  }
}

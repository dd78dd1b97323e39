// `npm run bench:operator [-- --databases 1000 --rest 120 --workers 8]`: what the operator costs. A real control plane (etcd, API server,
// controller manager; no kubelet) is started and stopped; the operator is a process of its own, as in its pod.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { parse } from 'yaml'
import { bundle } from '../../../scripts/bundle.ts'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import { KubeClient } from '../../../src/kube/client.ts'
import { Connection } from '../../../src/kube/connection.ts'
import type { KubeObject, Resource } from '../../../src/kube/object.ts'
import { NAMESPACES, SERVICE_ACCOUNTS } from '../../../src/kube/resources.ts'
import { installDefinitions } from '../../integration/controllers/harness.ts'
import { Samples } from './samples.ts'

const { values: options } = parseArgs({
  options: {
    databases: { type: 'string', default: '1000' },
    /** seconds */
    rest: { type: 'string', default: '120' },
    workers: { type: 'string', default: '8' },
    /** As in the chart. */
    'node-options': { type: 'string', default: '--max-semi-space-size=2' },
    /** Where etcd lies; on a busy disk its syncs are all that is measured: then one in memory, such as /dev/shm/kvidx-bench. */
    dir: { type: 'string' },
    /** `--no-lease` where the machine is so busy that a lease cannot be held: 10 s without an answer end the operator. */
    lease: { type: 'boolean', default: true },
  },
  allowNegative: true,
})
const COUNT = Number(options.databases)
const REST = Number(options.rest)
const NAMESPACE = 'bench'
const CLUSTER = 'test/cluster/cluster'
const execute = promisify(execFile)
/** The program as it is in the image; below node_modules, where it finds its packages. */
const PROGRAM = fileURLToPath(new URL('../../../node_modules/.cache/kvidx-bench/', import.meta.url))

await bundle(PROGRAM)
/** As in the image and in the chart. */
const MALLOC = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '65536', MALLOC_TRIM_THRESHOLD_: '65536' }
const IN_POD = `set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
cp "$1"/* /run/secrets/kubernetes.io/serviceaccount/
shift
exec "$@"`
const CLUSTER_ROLE_BINDINGS: Resource = {
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  plural: 'clusterrolebindings',
  kind: 'ClusterRoleBinding',
  namespaced: false,
}

const place = options.dir === undefined ? [] : ['--dir', options.dir]
const kubeconfig = (await execute(CLUSTER, ['control-plane', 'up', ...place])).stdout.trim()
const directory = kubeconfig.slice(0, kubeconfig.lastIndexOf('/'))
const api = new KubeClient({ connection: await Connection.load({ kubeconfig }) })
const {
  clusters: [
    {
      cluster: { server, 'certificate-authority-data': ca },
    },
  ],
} = parse(readFileSync(kubeconfig, 'utf8'))
const account = mkdtempSync(join(tmpdir(), 'kvidx-bench-account-'))
let operator: { readonly child: ChildProcess; readonly address: string } | undefined
// a bench that is cut short leaves no control plane behind
const cut = Promise.withResolvers<never>()
cut.promise.catch(() => {})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => cut.reject(new Error(signal)))
try {
  await Promise.race([cut.promise, bench()])
} finally {
  operator?.child.kill('SIGTERM')
  await api.close()
  await execute(CLUSTER, ['control-plane', 'down', '--dir', directory])
  rmSync(account, { recursive: true })
}

interface List {
  readonly items: readonly unknown[]
  readonly metadata: { readonly remainingItemCount?: number }
}

/** At once: a machine that gives out in the middle still leaves figures. */
function say(name: string, value: string): void {
  console.log(`${name.padEnd(66)}  ${value}`)
}

async function bench(): Promise<void> {
  await installDefinitions(api)
  await api.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } })
  await makeAccount()
  operator = await startOperator()
  const idle = residentMebibytes(operator.child)
  const before = await scrape(operator.address)
  const cpuBefore = cpuSeconds(operator.child)
  const othersBefore = controlPlaneSeconds()

  const began = performance.now()
  const created = createAll()
  // told below, where it is awaited; a bench that ended before must still clean up
  created.catch(() => {})
  let most = 0
  const allApplied = await until(async () => {
    most = Math.max(most, residentMebibytes(operatorChild()))
    // counted by the server: a list of everything each second would be most of the load
    const path = `/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets?limit=1`
    const { items, metadata } = JSON.parse(await api.raw(path)) as List
    return items.length + (metadata.remainingItemCount ?? 0) >= COUNT
  })
  await created
  const allSaid = await until(async () => {
    most = Math.max(most, residentMebibytes(operatorChild()))
    const { items } = await api.list<KubeObject & { readonly status?: { readonly observedGeneration?: number } }>(
      DATABASES,
      { namespace: NAMESPACE },
    )
    return items.length >= COUNT && items.every(item => item.status?.observedGeneration !== undefined)
  })
  const cpu = cpuSeconds(operator.child) - cpuBefore
  const others = controlPlaneSeconds()
  const after = await scrape(operator.address)
  say(`${COUNT} databases, ${options.workers} workers: all StatefulSets there after`, seconds(allApplied - began))
  say('all statuses written after', seconds(allSaid - began))
  say('CPU a database until then: operator', ms(cpu / COUNT))
  for (const [name, amount] of others) say(`  ${name}`, ms((amount - (othersBefore.get(name) ?? 0)) / COUNT))
  say(
    'API requests a database until then',
    ((after.requests(NOT_LEASE) - before.requests(NOT_LEASE)) / COUNT).toFixed(1),
  )

  // what follows from the pods of the StatefulSets comes to its end
  let last = -1
  let calm = 0
  const settling = performance.now()
  while (calm < 3) {
    const now = (await scrape(operator.address)).requests(NOT_LEASE)
    calm = now === last ? calm + 1 : 0
    last = now
    if (performance.now() - settling > 300_000)
      throw new Error('requests go on 5 minutes after the last status was written')
    await sleep(5000)
  }
  const settled = await scrape(operator.address)
  const cpuSettled = cpuSeconds(operator.child)
  say(
    'API requests a database until nothing happens',
    ((settled.requests(NOT_LEASE) - before.requests(NOT_LEASE)) / COUNT).toFixed(1),
  )
  say('reconcile p50 / p99', `${ms(settled.quantile(0.5))} / ${ms(settled.quantile(0.99))}`)
  say('reconciles a database', (settled.reconciles() / COUNT).toFixed(1))
  console.log('  by verb and resource:')
  for (const [series, amount] of settled.byVerb(before)) console.log(`  ${String(amount).padStart(7)}  ${series}`)
  await sleep(REST * 1000)
  const rested = await scrape(operator.address)
  const cpuRested = cpuSeconds(operator.child)
  say('operator RSS before / most / after rest', `${idle} / ${most} / ${residentMebibytes(operator.child)} MiB`)
  const resting = rested.requests(NOT_LEASE) - settled.requests(NOT_LEASE)
  say(`at rest for ${REST} s: requests a second (no watches, no lease)`, (resting / REST).toFixed(3))
  say(`at rest for ${REST} s: writes`, String(rested.requests(WRITES) - settled.requests(WRITES)))
  say(`at rest for ${REST} s: CPU`, `${(((cpuRested - cpuSettled) / REST) * 100).toFixed(1)} %`)

  // a new operator finds them all there
  operator.child.kill('SIGTERM')
  if (operator.child.exitCode === null) await once(operator.child, 'exit')
  operator = await startOperator()
  await sleep(10_000)
  const again = await scrape(operator.address)
  say(
    'operator RSS and CPU, 10 s after a restart has filled its caches',
    `${residentMebibytes(operator.child)} MiB, ${seconds(cpuSeconds(operator.child) * 1000)}`,
  )
  say('writes of a restart', String(again.requests(WRITES)))
}

function WRITES(labels: string): boolean {
  return /verb="(create|apply|patch|update|delete)"/.test(labels) && NOT_LEASE(labels)
}

function NOT_LEASE(labels: string): boolean {
  return !/resource="leases"/.test(labels)
}

function operatorChild(): ChildProcess {
  if (!operator || operator.child.exitCode !== null) throw new Error('the operator ended')
  return operator.child
}

/**
 * As in its pod, with the token of a service account: a kubeconfig would cost 80 MB for the library that reads it. The files lie where the
 * kubelet puts them, in a mount namespace of the operator's own, which takes root.
 */
async function startOperator(): Promise<{ child: ChildProcess; address: string }> {
  const port = 18_081
  const args = ['operator', ...(options.lease ? ['--leader-elect'] : []), '--namespace', NAMESPACE]
  const more = ['--metrics-host', '127.0.0.1', '--metrics-port', String(port), '--workers', options.workers]
  const last = ['--database-image', 'kvidx.example/kvidx:1', '--log-level', 'warn']
  const nodeOptions = options['node-options'].split(' ').filter(option => option !== '')
  const program = [process.execPath, ...nodeOptions, `${PROGRAM}kvidx.js`, ...args, ...more, ...last]
  const { KUBECONFIG: _others, ...environment } = process.env
  const { hostname: KUBERNETES_SERVICE_HOST, port: KUBERNETES_SERVICE_PORT } = new URL(server)
  const child = spawn('unshare', ['--mount', 'sh', '-c', IN_POD, 'sh', account, ...program], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...environment, ...MALLOC, KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT },
  })
  const address = `http://127.0.0.1:${port}`
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch(`${address}/status`).catch(() => undefined)
    const status = answer && ((await answer.json()) as { leading: boolean; synced: boolean })
    if (status?.leading && status.synced) return { child, address }
    if (attempt > 600 || child.exitCode !== null) throw new Error('the operator did not start')
    await sleep(100)
  }
}

/** A service account that may do everything, and a directory with what the kubelet would give it. */
async function makeAccount(): Promise<void> {
  const name = 'operator'
  await api.create(SERVICE_ACCOUNTS, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name, namespace: NAMESPACE },
  })
  await api.create(CLUSTER_ROLE_BINDINGS, {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: `bench-${name}` },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', name, namespace: NAMESPACE }],
  } as KubeObject)
  const request = {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    metadata: { name, namespace: NAMESPACE },
    spec: {},
  }
  const { status } = await api.create<KubeObject & { readonly status?: { readonly token: string } }>(
    SERVICE_ACCOUNTS,
    request as KubeObject & { spec: object },
    { subresource: 'token' },
  )
  writeFileSync(`${account}/token`, status?.token ?? '')
  writeFileSync(`${account}/namespace`, NAMESPACE)
  writeFileSync(`${account}/ca.crt`, Buffer.from(ca, 'base64'))
}

async function createAll(): Promise<void> {
  const names = Array.from({ length: COUNT }, (_, index) => `db-${index}`)
  const next = names[Symbol.iterator]()
  const worker = async () => {
    for (const name of next)
      await api.create(DATABASES, {
        apiVersion: 'kvidx.io/v1alpha1',
        kind: 'KvidxDatabase',
        metadata: { name, namespace: NAMESPACE },
        spec: { storage: { size: '1Gi' } },
      } as KubeObject)
  }
  // as an administrator they pass the API server's queues, so a few are a burst
  await Promise.all(Array.from({ length: 5 }, worker))
}

async function until(holds: () => Promise<boolean>): Promise<number> {
  const end = performance.now() + 900_000
  while (!(await holds())) {
    if (performance.now() > end) throw new Error('not within 15 minutes')
    await sleep(1000)
  }
  return performance.now()
}

async function scrape(address: string): Promise<Samples> {
  return new Samples(await (await fetch(`${address}/metrics`)).text())
}

function residentMebibytes({ pid }: ChildProcess): number {
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024)
}

/** CPU time so far of the API server and of what belongs to it, by name. */
function controlPlaneSeconds(): ReadonlyMap<string, number> {
  const names = ['kube-apiserver', 'etcd', 'kube-controller-manager']
  return new Map(
    names.map(name => {
      const [pid] = readFileSync(`${directory}/process/${name}.pid`, 'utf8').split(' ')
      return [name, cpuSeconds({ pid: Number(pid) })]
    }),
  )
}

/** User and system time so far. */
function cpuSeconds({ pid }: Pick<ChildProcess, 'pid'>): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function seconds(amount: number): string {
  return `${(amount / 1000).toFixed(1)} s`
}

function ms(amount: number): string {
  return `${(amount * 1000).toFixed(0)} ms`
}

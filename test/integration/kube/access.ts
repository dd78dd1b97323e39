import { KubeConfig } from '@kubernetes/client-node'
import { KubeClient } from '../../../src/kube/client.ts'
import { Connection } from '../../../src/kube/connection.ts'
import { KubeConfigCredentials } from '../../../src/kube/credentials.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { NAMESPACES } from '../../../src/kube/resources.ts'

export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>
}

export interface Access {
  readonly api: KubeClient
  readonly metrics: KubeMetrics
}

/** A client of the API server that a kubeconfig names. */
export async function access(
  kubeconfig: string,
  options: { timeout?: number; watchIdleTimeout?: number } = {},
): Promise<Access> {
  const metrics = new KubeMetrics()
  return { api: new KubeClient({ connection: await Connection.load({ kubeconfig }), metrics, ...options }), metrics }
}

/** A client that goes through a proxy. */
export function accessBy(kubeconfig: string, options: { timeout?: number; watchIdleTimeout?: number } = {}): Access {
  const config = new KubeConfig()
  config.loadFromString(kubeconfig)
  const metrics = new KubeMetrics()
  return {
    api: new KubeClient({ connection: new Connection(new KubeConfigCredentials(config)), metrics, ...options }),
    metrics,
  }
}

/** A namespace of this test's own. */
export async function freshNamespace(api: KubeClient, prefix: string): Promise<string> {
  const name = `${prefix}-${Date.now().toString(36)}-${process.pid.toString(36)}`
  await api.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  return name
}

export function configMap(
  namespace: string,
  name: string,
  data: Record<string, string>,
  labels?: Record<string, string>,
): ConfigMap {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace, name, ...(labels ? { labels } : {}) }, data }
}

/** Asks until it holds; the error says what was seen last. */
export async function eventually<T>(ask: () => T | Promise<T>, holds: (value: T) => boolean, ms = 10_000): Promise<T> {
  const end = Date.now() + ms
  for (;;) {
    const value = await ask()
    if (holds(value)) return value
    if (Date.now() > end) throw new Error(`not within ${ms} ms; last seen: ${JSON.stringify(value)}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** The number that a series of the metrics has. */
export async function metric(metrics: KubeMetrics, series: string): Promise<number> {
  const line = (await metrics.registry.metrics()).split('\n').find(one => one.startsWith(`${series} `))
  return line === undefined ? 0 : Number(line.split(' ').at(-1))
}

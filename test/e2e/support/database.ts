import { expect } from 'vitest'
import { eventually } from './eventually.ts'
import { apply, condition, find, get, kubectl, type Manifest } from './kubectl.ts'
import type { Client, PodRequest, PodResponse } from './pod.ts'

/** A KvidxDatabase for tests: small, with the defaults of everything that is not named. */
export function database(name: string, spec: object = {}): object {
  return {
    apiVersion: 'kvidx.io/v1alpha1',
    kind: 'KvidxDatabase',
    metadata: { name },
    spec: { storage: { size: '512Mi' }, resources: { requests: { cpu: '20m', memory: '64Mi' } }, ...spec },
  }
}

export async function applyDatabase(namespace: string, name: string, spec: object = {}): Promise<void> {
  await apply([database(name, spec)], { namespace })
}

/** Waits until the newest generation is Ready and at rest; resolves with it. */
export function ready(namespace: string, name: string, timeout = 120_000): Promise<Manifest> {
  return eventually(
    `${name} is Ready`,
    async () => {
      const found = await get(namespace, 'kvdb', name)
      const seen = JSON.stringify(found.status?.conditions)
      expect(condition(found, 'Ready')?.status, seen).toBe('True')
      expect(found.status.observedGeneration, seen).toBe(found.metadata.generation)
      expect(condition(found, 'Reconciling'), seen).toBeUndefined()
      expect(condition(found, 'Stalled'), seen).toBeUndefined()
      return found
    },
    { timeout, interval: 500 },
  )
}

/** Waits until a condition has this reason; resolves with the condition. */
export function reason(namespace: string, name: string, type: string, wanted: string, timeout = 90_000) {
  return eventually(
    `${name} has ${type} ${wanted}`,
    async () => {
      const found = condition(await get(namespace, 'kvdb', name), type)
      expect(found?.reason, found?.message).toBe(wanted)
      return found ?? null
    },
    { timeout, interval: 500 },
  )
}

export async function podUid(namespace: string, name: string): Promise<string | undefined> {
  return (await find(namespace, 'pod', `${name}-0`))?.metadata.uid
}

/** Waits until there is a pod of another uid than `before`. */
export function replaced(namespace: string, name: string, before: string | undefined): Promise<string> {
  return eventually(
    `pod ${name}-0 is replaced`,
    async () => {
      const uid = await podUid(namespace, name)
      return uid !== undefined && uid !== before ? uid : null
    },
    { timeout: 120_000 },
  )
}

/** The token of a right, out of the database's Secret. */
export async function tokenOf(namespace: string, name: string, right: 'read' | 'write' | 'admin'): Promise<string> {
  const text = await kubectl(['-n', namespace, 'get', 'secret', `${name}-auth`, '-o', `jsonpath={.data.${right}}`])
  return Buffer.from(text, 'base64').toString()
}

/** A request through the database's Service, as an application in another pod makes it. Tries again while nobody answers. */
export async function call(client: Client, name: string, path: string, request: PodRequest = {}): Promise<PodResponse> {
  const token = await tokenOf(client.namespace, name, 'admin')
  const headers = { authorization: `Bearer ${token}`, ...request.headers }
  const url = `http://${name}.${client.namespace}.svc:7400${path}`
  // right after a pod was replaced, DNS and kube-proxy need a moment
  return eventually(`${path} answers`, () => client.request(url, { ...request, headers }), { timeout: 30_000 })
}

export async function write(client: Client, name: string, key: number, body: string): Promise<void> {
  const { status } = await call(client, name, `/v1/records/${key}`, { method: 'PUT', body })
  expect([201, 204, 200], `PUT ${key}: ${status}`).toContain(status)
}

export async function read(client: Client, name: string, key: number): Promise<string> {
  const { status, body } = await call(client, name, `/v1/records/${key}`)
  expect(status, body).toBe(200)
  return body
}

/** What must be the same when nothing was written in between. */
export async function stats(
  client: Client,
  name: string,
): Promise<{ count: string; digest: string; position: string }> {
  const { status, body } = await call(client, name, '/v1/stats')
  expect(status, body).toBe(200)
  const { count, digest, position } = JSON.parse(body) as { count: string; digest: string; position: string }
  return { count, digest, position }
}

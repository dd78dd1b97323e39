import { expect } from 'vitest'
import { eventually } from './eventually.ts'
import type { Direct } from './forward.ts'
import { apply, condition, find, kubectl, list, type Manifest } from './kubectl.ts'

export interface Stats {
  readonly digest: string
  readonly count: string
  readonly position: string
  readonly lineage: string
}

export const statsOf = (database: Direct): Promise<Stats> => database.json<Stats>('/v1/stats')

export function backup(namespace: string, name: string, spec: object): object {
  return { apiVersion: 'kvidx.io/v1alpha1', kind: 'KvidxBackup', metadata: { name, namespace }, spec }
}

export function restore(namespace: string, name: string, spec: object): object {
  return { apiVersion: 'kvidx.io/v1alpha1', kind: 'KvidxRestore', metadata: { name, namespace }, spec }
}

/** Waits until a KvidxBackup (kvbak) or KvidxRestore (kvres) has ended, however. */
export function ended(namespace: string, kind: 'kvbak' | 'kvres', name: string, timeout = 180_000): Promise<Manifest> {
  return eventually(
    `${name} has ended`,
    async () => {
      const object = await find(namespace, kind, name)
      expect(object?.status?.phase, JSON.stringify(object?.status)).toMatch(/^(Completed|Failed)$/)
      return object as Manifest
    },
    { timeout, interval: 500 },
  )
}

/** A backup by hand that must succeed. Resolves with its status. */
export async function made(namespace: string, name: string, spec: object): Promise<Manifest['status']> {
  await apply([backup(namespace, name, spec)])
  const { status } = await ended(namespace, 'kvbak', name)
  expect(status).toMatchObject({ phase: 'Completed' })
  return status
}

/** Waits until a condition of the database is as wanted. */
export function says(
  namespace: string,
  name: string,
  type: string,
  wanted: Partial<{ status: string; reason: string }>,
  timeout = 90_000,
) {
  return eventually(
    `${name} says ${type} ${JSON.stringify(wanted)}`,
    async () => {
      const object = await find(namespace, 'kvdb', name)
      expect(condition(object, type), JSON.stringify(object?.status?.conditions)).toMatchObject(wanted)
      return object as Manifest
    },
    { timeout, interval: 500 },
  )
}

/** The database and its data volume go. What holds and tells of its backups stays. */
export async function lose(namespace: string, name: string): Promise<void> {
  await kubectl(['-n', namespace, 'delete', 'kvdb', name, '--timeout=120s'], { timeout: 130_000 })
  await eventually('its pod is gone', async () => (await find(namespace, 'pod', `${name}-0`)) === null, {
    timeout: 180_000,
  })
  await kubectl(['-n', namespace, 'delete', 'pvc', `data-${name}-0`, '--timeout=120s'], { timeout: 130_000 })
}

/** Names of the pods that mount a Secret. */
export async function podsWith(namespace: string, secret: string): Promise<readonly Manifest[]> {
  const pods = await list(namespace, 'pods')
  return pods.filter(({ spec }) =>
    (spec.volumes as readonly { secret?: { secretName?: string } }[]).some(
      volume => volume.secret?.secretName === secret,
    ),
  )
}

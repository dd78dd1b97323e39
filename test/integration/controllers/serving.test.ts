import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { renderSidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import {
  EVENTS,
  NAMESPACES,
  PERSISTENT_VOLUME_CLAIMS,
  PERSISTENT_VOLUMES,
  PODS,
  STATEFUL_SETS,
  STORAGE_CLASSES,
} from '../../../src/kube/resources.ts'
import type { RunningOperator } from '../../../src/operator/operator.ts'
import { canMount, smallVolume } from '../../support/small-volume.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'
import {
  type Any,
  conditionOf,
  database,
  find,
  IMAGE,
  installDefinitions,
  reason,
  startHere,
  userApply,
} from './harness.ts'

const { kubeconfig = '', missing } = inject('controlPlane')
const KVIDX = fileURLToPath(new URL('../../../bin/kvidx', import.meta.url))
/** The operator asks the port of the pod's own address. */
const ADDRESS = `127.88.${process.pid % 250}.2`
const MIB = 1024 ** 2
const LATER = 'kvidx.example/kvidx:2.0.0'

// a real engine process on a real small volume, a real API server: only the kubelet and the storage's driver are missing
describe.skipIf(missing || !canMount)('databases that serve, without a kubelet', { timeout: 120_000 }, () => {
  let api: KubeClient
  let namespace: string
  let operator: RunningOperator
  const classes: string[] = []

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig))
    await installDefinitions(api)
    namespace = await freshNamespace(api, 'growth')
    operator = await startHere(kubeconfig, namespace)
    for (const [name, allowVolumeExpansion] of [
      ['grows', true],
      ['fixed', false],
    ] as const) {
      classes.push(`${namespace}-${name}`)
      await api.create(STORAGE_CLASSES, {
        apiVersion: 'storage.k8s.io/v1',
        kind: 'StorageClass',
        metadata: { name: `${namespace}-${name}` },
        provisioner: 'kvidx.example/none',
        allowVolumeExpansion,
      } as KubeObject)
    }
  })

  afterAll(async () => {
    await operator?.stop()
    for (const name of classes) await api.delete(STORAGE_CLASSES, { name })
    await api?.delete(NAMESPACES, { name: namespace })
    await api?.close()
  })

  const claimOf = async (name: string) =>
    (await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, `data-${name}-0`)) as Any
  const asked = async (name: string) => (await claimOf(name)).spec.resources.requests.storage as string

  /** What the driver and the kubelet do: a bound volume of 64Mi, and a pod that serves. */
  const run = async (name: string, className: string, autoGrow: object, more: object = {}): Promise<Any> => {
    const storage = { size: '64Mi', storageClassName: `${namespace}-${className}`, autoGrow }
    await api.create(PERSISTENT_VOLUMES, {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: `${namespace}-${name}` },
      spec: {
        accessModes: ['ReadWriteOnce'],
        capacity: { storage: '64Mi' },
        storageClassName: storage.storageClassName,
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name: `data-${name}-0` },
        csi: { driver: 'kvidx.example', volumeHandle: name },
      },
    } as KubeObject)
    const created = await userApply(api, database(namespace, name, { storage, ...more }))
    await eventually(
      () => claimOf(name),
      claim => claim?.status?.phase === 'Bound',
      30_000,
    )
    const ready = { type: 'Ready', status: 'True' }
    const status = { phase: 'Running', podIP: ADDRESS, podIPs: [{ ip: ADDRESS }], conditions: [ready] }
    await eventually(
      () => find(api, PODS, namespace, `${name}-0`),
      pod => pod !== undefined,
    )
    await api.patch(PODS, { namespace, name: `${name}-0` }, { status }, { subresource: 'status' })
    return created
  }

  it('grow by themselves up to the limit, where the class can; get a later image in their window; the spec stays as it was', async () => {
    const root = mkdtempSync(join(tmpdir(), 'kvidx-growth-'))
    const sidecar = await startSidecar(root, smallVolume(64))
    try {
      for (let key = 0; key < 36; key++) {
        const body = Buffer.alloc(MIB, key)
        const { status } = await fetch(`http://${ADDRESS}:7400/v1/records/${key}`, { method: 'PUT', body })
        expect(status).toBeLessThan(300)
      }
      const limit = { enabled: true, threshold: 50, maxSize: '100Mi' }
      const [created] = await Promise.all([
        run('grows', 'grows', limit),
        run('small', 'grows', { ...limit, maxSize: '64Mi' }),
        run('fixed', 'fixed', limit, { updatePolicy: { type: 'Window', window: { schedule: '* * * * *' } } }),
        run('off', 'grows', { ...limit, enabled: false }),
      ])
      const set = (await find(api, STATEFUL_SETS, namespace, 'grows')) as Any

      const grown = await eventually(
        () => asked('grows'),
        size => size !== '64Mi',
        45_000,
      )
      expect(Number.parseInt(grown, 10)).toBeGreaterThanOrEqual(80)
      await reason(api, namespace, 'grows', 'Reconciling', 'Resizing')
      await reason(api, namespace, 'small', 'StorageHealthy', 'GrowthLimit')
      const fixed = await reason(api, namespace, 'fixed', 'StorageHealthy', 'CannotExpand')
      expect(conditionOf(fixed, 'Stalled')).toBeUndefined()
      expect(conditionOf(fixed, 'Ready')?.status).toBe('True')
      for (const name of ['small', 'fixed', 'off']) expect(await asked(name)).toBe('64Mi')

      // the storage is done
      const status = { capacity: { storage: grown } }
      await api.patch(
        PERSISTENT_VOLUME_CLAIMS,
        { namespace, name: 'data-grows-0' },
        { status },
        { subresource: 'status' },
      )
      const settled = await eventually(
        () => find(api, DATABASES, namespace, 'grows'),
        object => conditionOf(object, 'Reconciling') === undefined,
      )
      expect(settled?.status.storage).toMatchObject([{ requested: grown, size: grown, grownAt: expect.any(String) }])
      expect(settled?.spec).toEqual(created.spec)
      expect(settled?.metadata.generation).toBe(1)
      expect(((await find(api, STATEFUL_SETS, namespace, 'grows')) as Any).metadata.uid).toBe(set.metadata.uid)
      const events = await eventually(
        () => api.list<Any>(EVENTS, { namespace }),
        ({ items }) => items.some(event => event.reason === 'VolumeGrows'),
      )
      expect(events.items.find(event => event.reason === 'VolumeGrows')?.note).toBe(
        `Volume data-grows-0 grows by itself from 64Mi to ${grown}: 50 % or more in use`,
      )

      // a person raises the size: the claim follows, and the StatefulSet is made anew without its pod
      const { uid } = ((await find(api, PODS, namespace, 'grows-0')) as Any).metadata
      const storage = { ...created.spec.storage, size: '98Mi' }
      await userApply(api, database(namespace, 'grows', { storage }))
      await eventually(
        () => asked('grows'),
        size => size === '98Mi',
      )
      await eventually(
        () => find(api, STATEFUL_SETS, namespace, 'grows'),
        now => now?.spec.volumeClaimTemplates[0].spec.resources.requests.storage === '98Mi',
        40_000,
      )
      expect(((await find(api, PODS, namespace, 'grows-0')) as Any).metadata.uid).toBe(uid)

      // a later operator offers its image, and rolls it out where a window is open
      await operator.stop()
      operator = await startHere(kubeconfig, namespace, LATER)
      const rolledOut = await eventually(
        () => find(api, DATABASES, namespace, 'fixed'),
        object => object?.status.image === LATER,
        30_000,
      )
      expect(rolledOut?.status.updateAvailable).toBeUndefined()
      await eventually(
        () => find(api, STATEFUL_SETS, namespace, 'fixed'),
        now => now?.spec.template.spec.containers[0].image === LATER,
      )
      const offered = await eventually(
        () => find(api, DATABASES, namespace, 'off'),
        object => object?.status.updateAvailable === LATER,
        30_000,
      )
      expect(offered?.status.image).toBe(IMAGE)
      const offers = await eventually(
        () => api.list<Any>(EVENTS, { namespace }),
        ({ items }) => items.some(event => event.reason === 'UpdateAvailable' && event.regarding.name === 'off'),
      )
      expect(
        offers.items.filter(event => event.regarding.name === 'fixed' && event.reason === 'UpdateAvailable'),
      ).toEqual([])
    } finally {
      sidecar.kill('SIGTERM')
      await once(sidecar, 'exit')
      rmSync(root, { recursive: true, force: true })
      for (const name of ['grows', 'small', 'fixed', 'off'])
        await api.delete(PERSISTENT_VOLUMES, { name: `${namespace}-${name}` })
    }
  })
})

async function startSidecar(root: string, volume: string): Promise<ChildProcess> {
  const file = join(root, 'config.json')
  const spec = withDefaults({ storage: { size: '64Mi' } })
  writeFileSync(file, renderSidecarConfig(sidecarConfig({ namespace: 'default', name: 'grows', spec })))
  const ports = ['--host', ADDRESS, '--data-port', '7400', '--ops-port', '8080']
  const child = spawn(process.execPath, [KVIDX, 'sidecar', '--config', file, '--data-dir', volume, ...ports], {
    stdio: 'ignore',
  })
  await eventually(
    () =>
      fetch(`http://${ADDRESS}:8080/ready`).then(
        ({ status }) => status,
        () => 0,
      ),
    status => status === 200,
    30_000,
  )
  return child
}

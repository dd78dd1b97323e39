import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import { BACKUPS } from '../../../src/controllers/backup/record.ts'
import type { VolumeSnapshot } from '../../../src/controllers/backup/volume-snapshot.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import { silentLog } from '../../../src/kube/log.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { CUSTOM_RESOURCE_DEFINITIONS, VOLUME_SNAPSHOTS } from '../../../src/kube/resources.ts'
import type { RunningOperator } from '../../../src/operator/operator.ts'
import type { JobContext } from '../../../src/pod-job/context.ts'
import { RecordKeeper } from '../../../src/pod-job/record-keeper.ts'
import { snapshotVolume } from '../../../src/pod-job/snapshot-run.ts'
import { startControlPlane } from '../../support/control-plane.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'
import { database, find, installDefinitions, startHere, userApply } from './harness.ts'

const { missing } = inject('controlPlane')

/** As the external snapshotter has it, without its schema. */
const DEFINITION = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: {
    name: 'volumesnapshots.snapshot.storage.k8s.io',
    annotations: { 'api-approved.kubernetes.io': 'https://github.com/kubernetes-csi/external-snapshotter/pull/814' },
  },
  spec: {
    group: 'snapshot.storage.k8s.io',
    scope: 'Namespaced',
    names: {
      kind: 'VolumeSnapshot',
      listKind: 'VolumeSnapshotList',
      plural: 'volumesnapshots',
      singular: 'volumesnapshot',
    },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
      },
    ],
  },
}

const FROZEN = { lineage: 'l1', engine: 'SQLite', position: '1.7', records: '12', dataBytes: '9', digest: 'd' }

describe.skipIf(missing)('VolumeSnapshots on a real API server', () => {
  let plane: Awaited<ReturnType<typeof startControlPlane>>
  let api: KubeClient
  let namespace: string
  let operator: RunningOperator

  beforeAll(async () => {
    // another test needs an API server that does not know VolumeSnapshots
    plane = await startControlPlane()
    const { kubeconfig } = plane
    ;({ api } = await access(kubeconfig))
    await installDefinitions(api)
    await api.apply(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION as KubeObject)
    namespace = await freshNamespace(api, 'snapshot')
    await eventually(
      () => api.list(VOLUME_SNAPSHOTS, { namespace }).catch(() => undefined),
      list => list !== undefined,
    )
    operator = await startHere(kubeconfig, namespace)
    await userApply(api, database(namespace, 'orders'))
  })

  afterAll(async () => {
    await operator?.stop()
    await api?.close()
    await plane?.stop()
  })

  const record = (name: string, spec: object = {}) =>
    api.create(BACKUPS, {
      apiVersion: 'kvidx.io/v1alpha1',
      kind: 'KvidxBackup',
      metadata: { namespace, name },
      spec: { database: 'orders', type: 'VolumeSnapshot', ...spec },
    } as KubeObject)
  const snapshot = (name: string) => find(api, VOLUME_SNAPSHOTS, namespace, name)
  /** One that a person made. */
  const byHand = (name: string) =>
    api.create(VOLUME_SNAPSHOTS, {
      apiVersion: 'snapshot.storage.k8s.io/v1',
      kind: 'VolumeSnapshot',
      metadata: { namespace, name },
      spec: { source: { persistentVolumeClaimName: 'data-orders-0' } },
    } as KubeObject)
  /** What the driver says. */
  const answer = (name: string, status: object) =>
    api.patch(VOLUME_SNAPSHOTS, { namespace, name }, { status }, { subresource: 'status' })
  const server = {
    freeze: () => Promise.resolve({ token: 't', expiresAt: Date.now() + 10_000 }),
    thaw: () => Promise.resolve(true),
    state: () => Promise.resolve(FROZEN),
  }
  const run = async (name: string, clock: Clock = systemClock) => {
    const context: JobContext = {
      api,
      namespace,
      database: 'orders',
      job: 'job',
      pod: 'here',
      clock,
      log: silentLog,
      signal: new AbortController().signal,
      databaseAnswers: () => Promise.resolve(),
      runJob: () => Promise.reject(new Error('not asked for')),
    }
    const keeper = (await RecordKeeper.find(context, name)) as RecordKeeper
    return snapshotVolume(context, server, keeper)
  }

  it('are taken while writes stand still, after what a dead attempt left is gone', async () => {
    await record('again')
    await api.create(VOLUME_SNAPSHOTS, {
      apiVersion: 'snapshot.storage.k8s.io/v1',
      kind: 'VolumeSnapshot',
      metadata: { namespace, name: 'again', labels: { 'kvidx.io/backup': 'again', 'kvidx.io/database': 'orders' } },
      spec: { source: { persistentVolumeClaimName: 'data-orders-0' } },
    } as KubeObject)
    const left = await snapshot('again')
    const running = run('again')
    await eventually(
      () => snapshot('again'),
      seen => seen !== undefined && seen.metadata.uid !== left?.metadata.uid,
    )
    await answer('again', { creationTime: '2026-11-23T02:00:00Z', readyToUse: true, restoreSize: '1Gi' })
    expect(await running).toMatchObject({ phase: 'Completed', consistency: 'Exact', position: '1.7', lineage: 'l1' })
  })

  it('that a person made are neither taken over nor removed by a KvidxBackup of their name', async () => {
    const own = (await byHand('before-upgrade')) as VolumeSnapshot
    await record('before-upgrade', { deletionPolicy: 'Delete' })
    await expect(run('before-upgrade')).rejects.toThrow(/VolumeSnapshot before-upgrade exists already/)
    await eventually(
      () => find(api, BACKUPS, namespace, 'before-upgrade'),
      seen => seen?.metadata.finalizers?.length === 1,
    )
    await api.delete(BACKUPS, { namespace, name: 'before-upgrade' })
    await eventually(
      () => find(api, BACKUPS, namespace, 'before-upgrade'),
      seen => seen === undefined,
    )
    const kept = await snapshot('before-upgrade')
    expect(kept?.metadata).toMatchObject({ uid: own.metadata.uid })
    expect(kept?.metadata.deletionTimestamp).toBeUndefined()
  })

  it('that the driver refuses fail with its words, and leave nothing behind', async () => {
    let ahead = 0
    const clock: Clock = {
      now: () => systemClock.now(),
      monotonic: () => systemClock.monotonic() + ahead,
      sleep: (ms, signal) => systemClock.sleep(ms / 5, signal),
      setTimer: (ms, callback) => systemClock.setTimer(ms, callback),
    }
    await record('refused')
    const error = { message: 'snapshot class fast is not known', time: '2026-11-23T02:00:00Z' }
    const failed = expect(run('refused', clock)).rejects.toMatchObject({
      code: 'snapshot_refused',
      message: expect.stringContaining(error.message),
    })
    const seen = await eventually(
      () => snapshot('refused'),
      one => one !== undefined,
    )
    await answer('refused', { readyToUse: false, error })
    // past the freeze: once more
    ahead += 10_000
    await eventually(
      () => snapshot('refused'),
      one => one !== undefined && one.metadata.uid !== seen?.metadata.uid,
    )
    await answer('refused', { readyToUse: false, error })
    ahead += 10_000
    await eventually(
      () => snapshot('refused'),
      one => one?.metadata.annotations?.['kvidx.io/consistency'] === 'Crash',
    )
    // an error that passes is none
    await answer('refused', { error: null })
    await systemClock.sleep(500)
    ahead += 61_000
    await systemClock.sleep(500)
    expect(await snapshot('refused')).toBeDefined()
    await answer('refused', { error })
    await systemClock.sleep(500)
    ahead += 61_000
    await failed
    expect(await snapshot('refused')).toBeUndefined()
  })

  it('go with their record under deletionPolicy Delete', async () => {
    await record('goes', { deletionPolicy: 'Delete' })
    const running = run('goes')
    await eventually(
      () => snapshot('goes'),
      seen => seen !== undefined,
    )
    await answer('goes', { creationTime: '2026-11-23T02:00:00Z', readyToUse: true })
    await running
    await eventually(
      () => find(api, BACKUPS, namespace, 'goes'),
      seen => seen?.metadata.finalizers?.length === 1,
    )
    await api.delete(BACKUPS, { namespace, name: 'goes' })
    await eventually(
      () => snapshot('goes'),
      seen => seen === undefined,
    )
  })
})

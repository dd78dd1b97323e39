import type { KvidxDatabase } from '../api/v1alpha1/kvidx-database.ts'
import { KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import { type BackupRecord, type StatusChange, timeText, wantsVerification } from '../controllers/backup/record.ts'
import {
  type FrozenState,
  isSnapshotOf,
  SNAPSHOT,
  snapshotBytes,
  type VolumeSnapshot,
  volumeSnapshot,
} from '../controllers/backup/volume-snapshot.ts'
import { DATABASES } from '../controllers/database/resource.ts'
import { isAlreadyExists, undefinedIfMissing } from '../kube/api-error.ts'
import type { KubeObject } from '../kube/object.ts'
import { VOLUME_SNAPSHOTS } from '../kube/resources.ts'
import type { JobContext } from './context.ts'
import type { RecordKeeper } from './record-keeper.ts'

/** The engine process, as far as a snapshot of its volume needs it. */
export interface FreezableServer {
  /** Writes wait from now on, at most until the lease ends, ms. */
  freeze(lease: number): Promise<{ readonly token: string; readonly expiresAt: number }>
  /** False: something may have been written since the freeze. */
  thaw(token: string): Promise<boolean>
  state(): Promise<FrozenState>
}

/** The longest that writers are made to wait, ms. */
const LEASE = 10_000
/** Left for the thaw to arrive, ms. */
const THAW_MARGIN = 1000
const LOOK_INTERVAL = 200
const READY_INTERVAL = 1000
const ATTEMPTS = 2
/** The snapshot controller tries again by itself: an error that has stood for so long is the driver's answer, ms. */
const REFUSED_AFTER = 60_000

/**
 * Freezes, has the volume copied, thaws. Exact only if the copy was seen to be taken and the thaw answered that nothing was written; else once more,
 * and then it is kept as what a power loss would leave. The freeze ends by itself if this process dies.
 */
export async function snapshotVolume(
  context: JobContext,
  server: FreezableServer,
  keeper: RecordKeeper,
): Promise<StatusChange> {
  const { api, namespace, clock, signal } = context
  const { name } = keeper.record.metadata
  const ref = { namespace, name }
  const database = await api.get<KvidxDatabase & KubeObject>(
    DATABASES,
    { namespace, name: context.database },
    { signal },
  )
  let snapshot = await undefinedIfMissing(api.get<VolumeSnapshot>(VOLUME_SNAPSHOTS, ref, { signal }))
  if (snapshot && !isSnapshotOf(snapshot, keeper.record))
    throw new KvidxError('conflict', `VolumeSnapshot ${name} exists already and was not made by this backup`)
  const { annotations, deletionTimestamp } = snapshot?.metadata ?? {}
  if (snapshot && (annotations?.[SNAPSHOT.consistency] === undefined || deletionTimestamp !== undefined)) {
    // of an attempt that died before it knew what it had, so nothing can be said about it, or one that goes anyway
    await remove(context, snapshot)
    snapshot = undefined
  }
  for (let attempt = 1; !snapshot; attempt++) {
    const taken = await take(context, server, keeper, database)
    if (taken.exact || attempt === ATTEMPTS) {
      const consistency = taken.exact ? 'Exact' : 'Crash'
      // what it holds, if writes went on, is known only once it is mounted
      const unknown = {
        [SNAPSHOT.position]: null,
        [SNAPSHOT.records]: null,
        [SNAPSHOT.dataBytes]: null,
        [SNAPSHOT.digest]: null,
      }
      const annotations = { [SNAPSHOT.consistency]: consistency, ...(taken.exact ? {} : unknown) }
      snapshot = await api.patch<VolumeSnapshot>(VOLUME_SNAPSHOTS, ref, { metadata: { annotations } }, { signal })
    } else {
      context.log.info({ snapshot: name }, 'the copy was not taken while writes stood still; once more')
      await remove(context, taken.snapshot)
    }
  }
  let ready = snapshot
  let refusedSince: number | undefined
  while (ready.status?.readyToUse !== true) {
    const refusal = ready.status?.error?.message
    refusedSince = refusal === undefined ? undefined : (refusedSince ?? clock.monotonic())
    if (refusedSince !== undefined && clock.monotonic() - refusedSince >= REFUSED_AFTER) {
      // another attempt begins anew, and retention would never take away what is not ready
      await api.delete(VOLUME_SNAPSHOTS, ref, { signal, uid: ready.metadata.uid ?? '' })
      throw new KvidxError('snapshot_refused', `the driver does not make VolumeSnapshot ${name}: ${refusal}`)
    }
    await clock.sleep(READY_INTERVAL, signal)
    ready = await api.get<VolumeSnapshot>(VOLUME_SNAPSHOTS, ref, { signal })
  }
  return changeOf(ready, keeper.record, clock.now())
}

async function take(
  context: JobContext,
  server: FreezableServer,
  keeper: RecordKeeper,
  database: KvidxDatabase,
): Promise<{ readonly snapshot: VolumeSnapshot; readonly exact: boolean }> {
  const { api, clock, signal } = context
  const began = clock.monotonic()
  const { token } = await server.freeze(LEASE)
  let snapshot: VolumeSnapshot
  let within = false
  try {
    const desired = volumeSnapshot(database, keeper.record, await server.state())
    snapshot = await created(context, desired)
    while (!snapshot.status?.creationTime && clock.monotonic() - began < LEASE - THAW_MARGIN) {
      await clock.sleep(LOOK_INTERVAL, signal)
      snapshot = await api.get<VolumeSnapshot>(VOLUME_SNAPSHOTS, desired.metadata, { signal })
    }
  } finally {
    within = await server.thaw(token).catch(() => false)
  }
  return { snapshot, exact: within && snapshot.status?.creationTime !== undefined }
}

async function created(context: JobContext, desired: VolumeSnapshot): Promise<VolumeSnapshot> {
  try {
    return await context.api.create(VOLUME_SNAPSHOTS, desired, { signal: context.signal })
  } catch (error) {
    if (!isAlreadyExists(error)) throw error
    throw new KvidxError(
      'conflict',
      `VolumeSnapshot ${desired.metadata.name} exists already and is not of this attempt`,
    )
  }
}

/** Waits until it is gone, so that its name is free. */
async function remove(context: JobContext, { metadata }: VolumeSnapshot): Promise<void> {
  const { api, namespace, clock, signal } = context
  const ref = { namespace, name: metadata.name }
  await api.delete(VOLUME_SNAPSHOTS, ref, { signal, ...(metadata.uid !== undefined && { uid: metadata.uid }) })
  while (await undefinedIfMissing(api.get<VolumeSnapshot>(VOLUME_SNAPSHOTS, ref, { signal })))
    await clock.sleep(LOOK_INTERVAL, signal)
}

/** @param now Unix ms */
function changeOf(snapshot: VolumeSnapshot, record: BackupRecord, now: number): StatusChange {
  const { annotations = {}, namespace, name } = snapshot.metadata
  const value = (key: string) => annotations[key]
  const amount = (key: string) => {
    const text = value(key)
    return text === undefined ? undefined : Number(text)
  }
  const storedBytes = snapshotBytes(snapshot)
  const exact = value(SNAPSHOT.consistency) === 'Exact'
  const members = {
    lineage: value(SNAPSHOT.lineage),
    engine: value(SNAPSHOT.engine),
    ...(exact && {
      position: value(SNAPSHOT.position),
      records: amount(SNAPSHOT.records),
      dataBytes: amount(SNAPSHOT.dataBytes),
      digest: value(SNAPSHOT.digest),
    }),
    storedBytes,
    size: storedBytes === undefined ? undefined : formatBytes(storedBytes),
  }
  return {
    ...Object.fromEntries(Object.entries(members).filter(([, member]) => member !== undefined)),
    phase: 'Completed',
    type: 'VolumeSnapshot',
    consistency: exact ? 'Exact' : 'Crash',
    location: `volumesnapshot/${namespace ?? ''}/${name}`,
    verification: wantsVerification(record) ? 'Pending' : 'Skipped',
    completedAt: timeText(now),
    detail: exact
      ? 'the volume was copied while writes stood still'
      : 'the volume was copied as a power loss would leave it',
  }
}

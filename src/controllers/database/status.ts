import { type Finding, findCondition, mergeConditions } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabaseStatus } from '../../api/v1alpha1/database-status.ts'
import { milliseconds } from '../../common/duration.ts'
import { formatBytes } from '../../common/quantity.ts'
import { timeText } from '../backup/record.ts'
import { isRollingOut } from './health.ts'
import { DATA_PORT, DATABASE_LABEL, GROWN_ANNOTATION, OPERATIONS_PORT } from './names.ts'
import type { Blueprint } from './objects/blueprint.ts'
import type { Observed, ProbeStatus } from './observed.ts'
import { isReady } from './plan.ts'

type Data = NonNullable<KvidxDatabaseStatus['data']>
type Volumes = NonNullable<KvidxDatabaseStatus['storage']>
type Volume = Volumes[number]

/** Figures that moved less than this part are not worth a write. */
const MOVED = 0.05
/** A forecast beyond this says nothing. */
const LONGEST_DAYS = 3650

/** The whole status after a reconcile. Pure: the same observations at rest give an equal object, whatever the time. */
export function statusOf(
  blueprint: Blueprint,
  observed: Observed,
  findings: readonly Finding[],
  now: number,
  updateAvailable: string | undefined,
): KvidxDatabaseStatus {
  const { database, probe, pods } = observed
  const before = database.status ?? {}
  const { names, namespace, name, spec } = blueprint
  const generation = database.metadata.generation ?? 0
  const host = (service: string) => `${service}.${namespace}.svc`
  const scheme = spec.security.tls ? 'https' : 'http'
  const status = probe?.status
  // a database that serves is the lineage that it says: after recovery.allowEmpty or bootstrap.adopt it is another
  const lineage = (status?.ready && status.lineage) || before.lineage || undefined
  const storageReason = findings.find(({ type }) => type === 'StorageHealthy')?.reason
  const figures = refreshed(
    figuresIn(before, names.dataClaim(0)),
    figuresOf(observed, now),
    storageReason !== undefined && storageReason !== findCondition(before.conditions, 'StorageHealthy')?.reason,
    milliseconds(spec.monitoring.figuresInterval, 'spec.monitoring.figuresInterval'),
    now,
  )
  const engineVersion = status?.engineVersion || before.engineVersion
  return {
    ...(before.backup && { backup: before.backup }),
    observedGeneration: generation,
    conditions: [...mergeConditions(before.conditions ?? [], findings, now, generation)],
    ...(lineage !== undefined && { lineage }),
    replicas: pods.length,
    readyReplicas: pods.filter(isReady).length,
    selector: `${DATABASE_LABEL}=${name}`,
    ...(pods.length > 0 && { primary: names.pod(0) }),
    endpoints: {
      data: `${scheme}://${host(names.service)}:${DATA_PORT}`,
      readOnly: `${scheme}://${host(names.readService)}:${DATA_PORT}`,
      operations: `http://${host(names.service)}:${OPERATIONS_PORT}`,
      ...(spec.security.socket && { socket: '/run/kvidx/kvidx.sock' }),
      tokenSecret: spec.security.auth.secretRef?.name ?? names.authSecret,
    },
    ...proven(blueprint, observed),
    ...(updateAvailable !== undefined && { updateAvailable }),
    ...(engineVersion !== undefined && { engineVersion }),
    ...(blueprint.replicas === 0 && pods.length === 0 && { hibernated: true }),
    ...(figures.data && { data: figures.data }),
    storage: volumesOf(observed, figures.volume, names.dataClaim(0)),
  }
}

/**
 * What the pods run. An image that the spec names is that once a pod serves with it: it is what a database goes back to when the field is taken
 * out again, which must not be an image that never worked.
 */
function proven(
  { spec, image, templateVersion }: Blueprint,
  { database, statefulSet, pods }: Observed,
): Pick<KvidxDatabaseStatus, 'image' | 'templateVersion'> {
  const before = database.status ?? {}
  if (spec.image === undefined || before.image === undefined || before.image === image)
    return { image, templateVersion }
  const set = statefulSet?.spec.template.spec.containers.some(container => container.image === image)
  const serves = set && pods.some(isReady) && !isRollingOut(statefulSet, pods[0])
  return serves
    ? { image, templateVersion }
    : { image: before.image, templateVersion: before.templateVersion ?? templateVersion }
}

/** What moves by itself: of the data, and of the volume of the pod that was asked. */
interface Figures {
  readonly data: Data | undefined
  readonly volume: Pick<Volume, 'usedBytes' | 'usedPercent' | 'daysUntilFull' | 'quarantine'> | undefined
}

function figuresOf({ probe }: Observed, now: number): Figures | undefined {
  const status = probe?.status
  if (!status) return undefined
  const { volume } = status
  if (!volume) return { data: dataOf(status, now), volume: undefined }
  const used = volume.size - volume.free
  const days = volume.daysUntilFull === undefined ? undefined : Math.floor(volume.daysUntilFull)
  const { entries = 0, bytes, oldest } = volume.quarantine ?? {}
  return {
    data: dataOf(status, now),
    volume: defined({
      usedBytes: used,
      usedPercent: percentOf(used, volume.size),
      daysUntilFull: days !== undefined && days < LONGEST_DAYS ? days : undefined,
      quarantine:
        entries > 0
          ? defined({ entries, bytes, oldest: oldest === undefined ? undefined : timeText(oldest) })
          : undefined,
    }),
  }
}

function dataOf(status: ProbeStatus, now: number): Data | undefined {
  if (!status.data) return undefined
  const { storage } = status
  return {
    time: timeText(now),
    position: status.data.position,
    keys: Number(status.data.count),
    dataBytes: Number(status.data.dataBytes),
    digest: status.data.digest,
    ...(storage && {
      fileBytes: storage.fileBytes,
      size: formatBytes(storage.fileBytes),
      fragmentation: Math.round(storage.fragmentation * 100),
      ...(storage.walBytes !== undefined && { walBytes: storage.walBytes }),
    }),
  }
}

/**
 * Figures alone are written at most once an interval, and only when one of them moved by 5 %; at once when the state of the volume is another (a threshold
 * was crossed), or something came to the quarantine or left it.
 */
function refreshed(kept: Figures, seen: Figures | undefined, crossed: boolean, interval: number, now: number): Figures {
  if (!seen) return kept
  // a pod that is only starting has no data to tell of
  const next: Figures = { data: seen.data ?? kept.data, volume: seen.volume ?? kept.volume }
  const isNew = (!kept.data && next.data) || (!kept.volume && next.volume)
  if (isNew || crossed || kept.volume?.quarantine?.entries !== next.volume?.quarantine?.entries) return next
  // either way: a clock that was ahead must not keep the figures until it is reached
  if (kept.data?.time !== undefined && Math.abs(now - Date.parse(kept.data.time)) < interval) return kept
  const moved =
    (['keys', 'dataBytes', 'fileBytes'] as const).some(field => hasMoved(kept.data?.[field], next.data?.[field])) ||
    (['usedBytes', 'daysUntilFull'] as const).some(field => hasMoved(kept.volume?.[field], next.volume?.[field]))
  return moved ? next : kept
}

/** Those that stand in the status. */
function figuresIn({ data, storage = [] }: KvidxDatabaseStatus, mounted: string): Figures {
  const { usedBytes, usedPercent, daysUntilFull, quarantine } = storage.find(({ name }) => name === mounted) ?? {}
  return {
    data,
    volume: usedBytes === undefined ? undefined : defined({ usedBytes, usedPercent, daysUntilFull, quarantine }),
  }
}

function hasMoved(a = 0, b = 0): boolean {
  return Math.abs(a - b) > MOVED * Math.max(a, 1)
}

function volumesOf({ claims }: Observed, figures: Figures['volume'], mounted: string): Volumes {
  return claims.map(({ metadata, status, spec }) =>
    defined({
      name: metadata.name,
      phase: status?.phase,
      requested: spec.resources.requests.storage,
      size: status?.capacity?.storage,
      grownAt: metadata.annotations?.[GROWN_ANNOTATION]?.replace(/\.\d+Z$/, 'Z').slice(0, 40),
      ...(metadata.name === mounted && figures),
    }),
  )
}

function percentOf(part: number, whole: number): number {
  return Math.round((part / Math.max(1, whole)) * 100)
}

/** Without the members that are undefined. */
function defined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Defined<T>
}

type Defined<T> = {
  [K in keyof T as undefined extends T[K] ? never : K]: T[K]
} & { [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined> }

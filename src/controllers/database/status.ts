import { type Finding, mergeConditions } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabaseStatus } from '../../api/v1alpha1/database-status.ts'
import { milliseconds } from '../../common/duration.ts'
import { formatBytes } from '../../common/quantity.ts'
import { DATA_PORT, DATABASE_LABEL, GROWN_ANNOTATION, OPERATIONS_PORT } from './names.ts'
import type { Blueprint } from './objects/desired.ts'
import type { Observed, ProbeStatus } from './observed.ts'
import { isReady } from './plan.ts'

type Data = NonNullable<KvidxDatabaseStatus['data']>
type Volumes = NonNullable<KvidxDatabaseStatus['storage']>

/** Figures that moved less than this part are not worth a write. */
const MOVED = 0.05

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
  const interval = milliseconds(spec.monitoring.figuresInterval, 'spec.monitoring.figuresInterval')
  // a database that serves is the lineage that it says: after recovery.allowEmpty or bootstrap.adopt it is another
  const lineage = (status?.ready && status.lineage) || before.lineage || undefined
  const data = status ? refreshed(before.data, dataOf(status, now), interval, now) : before.data
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
    image: blueprint.image,
    ...(updateAvailable !== undefined && { updateAvailable }),
    templateVersion: blueprint.templateVersion,
    ...(engineVersion !== undefined && { engineVersion }),
    ...(blueprint.replicas === 0 && pods.length === 0 && { hibernated: true }),
    ...(data && { data }),
    storage: volumesOf(observed, before.storage ?? []),
  }
}

function dataOf(status: ProbeStatus, now: number): Data | undefined {
  if (!status.data) return undefined
  const { storage } = status
  return {
    time: new Date(now).toISOString().replace(/\.\d+Z$/, 'Z'),
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

/** Figures alone are written at most once an interval, and only when one of them moved. */
function refreshed(before: Data | undefined, after: Data | undefined, interval: number, now: number): Data | undefined {
  if (!after) return before
  if (!before?.time) return after
  if (now - Date.parse(before.time) < interval) return before
  const moved = (['keys', 'dataBytes', 'fileBytes'] as const).some(field => {
    const a = before[field] ?? 0
    const b = after[field] ?? 0
    return Math.abs(a - b) > MOVED * Math.max(a, 1)
  })
  return moved ? after : before
}

function volumesOf(observed: Observed, before: Volumes): Volumes {
  const volume = observed.probe?.status?.volume
  return observed.claims.map((claim, index) => {
    const { name } = claim.metadata
    const known = before.find(entry => entry.name === name)
    const used = volume && index === 0 ? volume.size - volume.free : undefined
    const percent = used !== undefined && volume ? Math.round((used / Math.max(1, volume.size)) * 100) : undefined
    // in steps of five percent: what moves a little is not worth a write
    const moved = percent !== undefined && Math.abs(percent - (known?.usedPercent ?? -100)) >= 5
    const figures =
      moved || !known
        ? { usedBytes: used, usedPercent: percent }
        : { usedBytes: known.usedBytes, usedPercent: known.usedPercent }
    const days = volume?.daysUntilFull === undefined ? undefined : Math.floor(volume.daysUntilFull)
    return defined({
      name,
      phase: claim.status?.phase,
      requested: claim.spec.resources.requests.storage,
      size: claim.status?.capacity?.storage,
      ...figures,
      daysUntilFull:
        days !== undefined &&
        days < 3650 &&
        (known?.daysUntilFull === undefined || Math.abs(days - known.daysUntilFull) > 0.2 * known.daysUntilFull)
          ? days
          : known?.daysUntilFull,
      grownAt: claim.metadata.annotations?.[GROWN_ANNOTATION]?.replace(/\.\d+Z$/, 'Z').slice(0, 40),
      quarantine: known?.quarantine,
    }) as Volumes[number]
  })
}

function defined<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Partial<T>
}

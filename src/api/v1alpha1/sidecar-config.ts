import { createHash } from 'node:crypto'
import { check } from '../../common/check.ts'
import { milliseconds } from '../../common/duration.ts'
import { KvidxError } from '../../common/errors.ts'
import { bytes } from '../../common/quantity.ts'
import type { ResolvedDatabaseSpec } from './database-spec.ts'
import {
  type DynamicConfig,
  type SidecarConfig,
  type StaticConfig,
  sidecarConfigSchema,
} from './sidecar-config-schema.ts'

export type { DynamicConfig, SidecarConfig, StaticConfig } from './sidecar-config-schema.ts'

/** Where the pod, or `kvidx run`, puts what the configuration names. Absolute paths. */
export interface ConfigPaths {
  /** Backup volume. */
  readonly backups: string
  /** Files accessKeyId, secretAccessKey, sessionToken of the backup destination. */
  readonly s3Credentials: string
  /** Directory with ca.crt for the backup destination. */
  readonly s3Ca: string
  /** One file for each encryption key. */
  readonly encryption: string
  /** The volume that bootstrap reads from. */
  readonly bootstrap: string
  readonly bootstrapS3Credentials: string
  readonly bootstrapS3Ca: string
}

/** The mount points in the pod. */
export const POD_PATHS: ConfigPaths = {
  backups: '/backups',
  s3Credentials: '/etc/kvidx/s3-credentials',
  s3Ca: '/etc/kvidx/s3-ca',
  encryption: '/etc/kvidx/encryption',
  bootstrap: '/bootstrap',
  bootstrapS3Credentials: '/etc/kvidx/bootstrap-s3-credentials',
  bootstrapS3Ca: '/etc/kvidx/bootstrap-s3-ca',
}

export interface SidecarConfigInput {
  readonly namespace: string
  readonly name: string
  /** From withDefaults. */
  readonly spec: ResolvedDatabaseSpec
  /** status.lineage; absent for a database that never had data. */
  readonly expectedLineage?: string
  /** Lineage in the VolumeSnapshot that the data volume was made from. */
  readonly clonedFrom?: string
  /** Default: the mount points in the pod. */
  readonly paths?: ConfigPaths
}

/**
 * The sidecar's configuration for a database. Pure. The spec must have passed validation; a value that cannot be read is an
 * `invalid_parameter` that names its field.
 */
export function sidecarConfig(input: SidecarConfigInput): SidecarConfig {
  const { expectedLineage, spec } = input
  const paths = input.paths ?? POD_PATHS
  return {
    formatVersion: 1,
    static: staticConfig(input),
    dynamic: {
      ...(expectedLineage === undefined ? {} : { expectedLineage }),
      ...bootstrapConfig(input, paths),
      recovery: {
        ...spec.recovery,
        adoptGrace: milliseconds(spec.recovery.adoptGrace, 'spec.recovery.adoptGrace'),
        quarantine: milliseconds(spec.recovery.quarantine, 'spec.recovery.quarantine'),
      },
      changeLog: {
        maxSize: share(spec.changeLog.maxSize, 'spec.changeLog.maxSize'),
        idleSize: share(spec.changeLog.idleSize, 'spec.changeLog.idleSize'),
      },
      space: {
        snapshotGrowth: share(spec.limits.snapshotGrowth, 'spec.limits.snapshotGrowth'),
        reserve: share(spec.limits.reserve, 'spec.limits.reserve'),
      },
      maintenance: maintenanceConfig(spec),
      monitoring: {
        logLevel: spec.monitoring.logLevel,
        slowOperation: milliseconds(spec.monitoring.slowOperation, 'spec.monitoring.slowOperation'),
        walSize: bytes(spec.monitoring.walSize, 'spec.monitoring.walSize'),
        fragmentation: spec.monitoring.fragmentation / 100,
      },
      audit: spec.security.audit,
      ...backupConfig(spec, paths),
    },
  }
}

/** The document as it stands in the ConfigMap. The same input gives the same bytes. */
export function renderSidecarConfig(config: SidecarConfig): string {
  return `${JSON.stringify(config, undefined, 2)}\n`
}

/** Checksum of what needs a restart, for the pod template: 16 hex digits. */
export function staticChecksum(config: StaticConfig): string {
  return createHash('sha256').update(canonical(config)).digest('hex').slice(0, 16)
}

/**
 * Reads a configuration document. Throws KvidxError invalid_parameter naming the field.
 * @param what for messages: the path of the file
 */
export function parseSidecarConfig(text: string, what: string): SidecarConfig {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new KvidxError('invalid_parameter', `${what} is not JSON: ${(cause as Error).message}`, {}, cause)
  }
  return check(sidecarConfigSchema, value, what)
}

function staticConfig({ namespace, name, spec }: SidecarConfigInput): StaticConfig {
  const { tuning, limits } = spec
  const size = (field: keyof typeof tuning): number | undefined => {
    const value = tuning[field]
    return value === undefined ? undefined : bytes(value, `spec.tuning.${field}`)
  }
  const autoCache = tuning.cacheSize === 'auto'
  return {
    namespace,
    name,
    engine: spec.engine,
    tuning: defined({
      syncMode: tuning.syncMode,
      cacheSize: autoCache ? undefined : size('cacheSize'),
      journalMode: tuning.journalMode,
      busyTimeout:
        tuning.busyTimeout === undefined ? undefined : milliseconds(tuning.busyTimeout, 'spec.tuning.busyTimeout'),
      mmapSize: size('mmapSize'),
      pageSize: size('pageSize'),
      mapSize: size('mapSize'),
      mapSizeLimit: size('mapSizeLimit'),
      compression: tuning.compression,
    }),
    autoCache,
    limits: {
      recordBytes: bytes(limits.recordBytes, 'spec.limits.recordBytes'),
      atomicBytes: bytes(limits.atomicBytes, 'spec.limits.atomicBytes'),
      atomicRecords: limits.atomicRecords,
      bufferedBytes: bytes(limits.bufferedBytes, 'spec.limits.bufferedBytes'),
      connections: limits.connections,
      streams: limits.streams,
      followers: limits.followers,
      idleTimeout: milliseconds(limits.idleTimeout, 'spec.limits.idleTimeout'),
    },
    security: { tls: spec.security.tls !== undefined, socket: spec.security.socket },
  }
}

function maintenanceConfig({ maintenance }: ResolvedDatabaseSpec): DynamicConfig['maintenance'] {
  const at = 'spec.maintenance'
  const { expiry, checkpoint, vacuum, check: integrity } = maintenance
  return {
    expiry: { interval: milliseconds(expiry.interval, `${at}.expiry.interval`), batchSize: expiry.batchSize },
    checkpoint: {
      walSize: bytes(checkpoint.walSize, `${at}.checkpoint.walSize`),
      interval: milliseconds(checkpoint.interval, `${at}.checkpoint.interval`),
    },
    vacuum: {
      interval: milliseconds(vacuum.interval, `${at}.vacuum.interval`),
      fragmentation: vacuum.fragmentation / 100,
      ...(vacuum.window && {
        window: { ...vacuum.window, duration: milliseconds(vacuum.window.duration, `${at}.vacuum.window.duration`) },
      }),
    },
    ...(integrity.enabled ? { check: { schedule: integrity.schedule, timeZone: integrity.timeZone } } : {}),
  }
}

function backupConfig(spec: ResolvedDatabaseSpec, paths: ConfigPaths): Pick<DynamicConfig, 'backup'> {
  const { backup, security, storage } = spec
  if (!backup) return {}
  const at = 'spec.backup'
  const { destination, retention, continuous } = backup
  return {
    backup: {
      destination: {
        ...(destination.volume && { volume: { directory: paths.backups } }),
        ...(destination.s3 && { s3: s3Config(destination.s3, paths.s3Credentials, paths.s3Ca) }),
      },
      timeZone: backup.timeZone,
      suspend: backup.suspend,
      schedules: backup.schedules.map((schedule, index) => ({
        name: schedule.name,
        schedule: schedule.schedule,
        type: schedule.type,
        verify: schedule.verify ?? schedule.type === 'Full',
        suspend: schedule.suspend,
        startingDeadline: milliseconds(schedule.startingDeadline, `${at}.schedules[${index}].startingDeadline`),
        timeout: milliseconds(schedule.timeout, `${at}.schedules[${index}].timeout`),
      })),
      retention: { ...retention, window: milliseconds(retention.window, `${at}.retention.window`) },
      continuous: {
        enabled: continuous.enabled,
        interval: milliseconds(continuous.interval, `${at}.continuous.interval`),
        segmentSize: bytes(continuous.segmentSize, `${at}.continuous.segmentSize`),
      },
      compressionLevel: backup.compressionLevel,
      ...(backup.bandwidthLimit === undefined
        ? {}
        : { bandwidthLimit: bytes(backup.bandwidthLimit, `${at}.bandwidthLimit`) }),
      scratchBytes: bytes(backup.scratch.size ?? storage.size, `${at}.scratch.size`),
      ...(backup.drill && { drill: backup.drill }),
      ...(security.encryption && { encryption: { keyId: security.encryption.keyId, directory: paths.encryption } }),
    },
  }
}

function bootstrapConfig(
  { spec, namespace, clonedFrom }: SidecarConfigInput,
  paths: ConfigPaths,
): Pick<DynamicConfig, 'bootstrap'> {
  const { bootstrap } = spec
  if (!bootstrap) return {}
  const { restore, adopt } = bootstrap
  const origin = (from: { readonly volume?: unknown; readonly s3?: S3Spec }) => ({
    ...(from.volume === undefined ? {} : { volume: { directory: paths.bootstrap } }),
    ...(from.s3 && { s3: s3Config(from.s3, paths.bootstrapS3Credentials, paths.bootstrapS3Ca) }),
  })
  return {
    bootstrap: {
      ...(restore && {
        restore: defined({
          backup: restore.backup,
          source: restore.source && {
            namespace: restore.source.namespace ?? namespace,
            database: restore.source.database,
            ...(restore.source.lineage === undefined ? {} : { lineage: restore.source.lineage }),
            ...origin(restore.source),
          },
          time: restore.time,
          position: restore.position,
        }),
      }),
      ...(bootstrap.import && {
        import: {
          format: bootstrap.import.format,
          path: bootstrap.import.path,
          onDuplicate: bootstrap.import.onDuplicate,
          ...origin(bootstrap.import),
        },
      }),
      ...(adopt === undefined ? {} : { adopt }),
      ...(clonedFrom === undefined ? {} : { clone: clonedFrom }),
    },
  }
}

type S3Spec = NonNullable<NonNullable<ResolvedDatabaseSpec['backup']>['destination']['s3']>

function s3Config(s3: S3Spec, credentialsDirectory: string, caDirectory: string) {
  const { credentialsSecretRef, caSecretRef, ...rest } = s3
  return {
    ...rest,
    ...(credentialsSecretRef && { credentialsDirectory }),
    ...(caSecretRef && { caFile: `${caDirectory}/ca.crt` }),
  }
}

function share(value: string | number, field: string): { bytes: number } | { percent: number } {
  const percent = /^(\d{1,3})%$/.exec(String(value))
  return percent ? { percent: Number(percent[1]) } : { bytes: bytes(value, field) }
}

type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>
}

/** Without the members that are undefined. */
function defined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as Defined<T>
}

/** JSON with sorted members: the order in which a spec was written does not restart a pod. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  )
}

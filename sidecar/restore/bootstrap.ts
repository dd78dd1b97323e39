import { join } from 'node:path'
import type { DynamicConfig } from '../../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { configuredStore, type StoreSettings } from '../backup/store/settings.ts'
import type { DatabaseConfig } from '../database/config.ts'
import { parsePosition } from '../database/position.ts'
import { engineOptions } from '../database/session.ts'
import type { Seed } from '../volume/seed.ts'
import { type FillProgress, type FillTask, FillThread, type RestoreFrom } from './fill.ts'

type Bootstrap = NonNullable<DynamicConfig['bootstrap']>

/** How the first data comes in; for `/status`. */
export interface BootstrapStatus {
  readonly from: 'restore' | 'import'
  readonly stage: FillProgress['stage']
  readonly records: number
}

/** The seed that a configuration asks for; undefined: an empty database. Errors: invalid_parameter. */
export function seedOf(
  dynamic: DynamicConfig,
  database: DatabaseConfig,
  clock: Clock,
  onProgress: (status: BootstrapStatus) => void,
): Seed | undefined {
  const { bootstrap } = dynamic
  if (!bootstrap?.restore && !bootstrap?.import) return undefined
  return async (directory, signal) => {
    const engine = engineOptions(database, directory)
    const task = bootstrap.restore
      ? restoreTask(bootstrap.restore, dynamic, database, engine, clock.now())
      : importTask(bootstrap.import as NonNullable<Bootstrap['import']>, dynamic, database, engine, clock.now())
    const from = bootstrap.restore ? 'restore' : 'import'
    onProgress({ from, stage: 'records', records: 0 })
    const thread = await FillThread.start(task, ({ stage, records }) => onProgress({ from, stage, records }))
    try {
      return { ...(await thread.filled(signal)) }
    } finally {
      await thread.end()
    }
  }
}

function restoreTask(
  restore: NonNullable<Bootstrap['restore']>,
  dynamic: DynamicConfig,
  { namespace, name }: DatabaseConfig,
  engine: FillTask['engine'],
  now: number,
): FillTask {
  const { backup, source, time, position } = restore
  const lineage = source?.lineage
  const where = { namespace: source?.namespace ?? namespace, database: source?.database ?? name }
  return {
    kind: 'restore',
    store: storeOf(source, dynamic),
    where: lineage === undefined ? where : { ...where, lineage },
    from: fromOf(backup, time, position),
    engine,
    now,
  }
}

function fromOf(backup: string | undefined, time: string | undefined, position: string | undefined): RestoreFrom {
  if (position !== undefined)
    return { kind: 'position', position: parsePosition(position, 'bootstrap.restore.position') }
  if (time !== undefined) {
    const ms = Date.parse(time)
    if (Number.isNaN(ms))
      throw new KvidxError('invalid_parameter', `bootstrap.restore.time: '${time}' is no time (allowed: RFC 3339)`, {
        field: 'bootstrap.restore.time',
      })
    return { kind: 'time', time: BigInt(ms) }
  }
  return backup === undefined ? { kind: 'latest' } : { kind: 'backup', name: backup }
}

/** The place that a block names; without one the database's own destination. Encryption keys are the database's own. */
function storeOf(
  place: { readonly volume?: { readonly directory: string }; readonly s3?: StoreSettings['s3'] } | undefined,
  { backup }: DynamicConfig,
): StoreSettings {
  const encryption = backup?.encryption && { encryption: backup.encryption }
  if (place?.volume) return { volume: place.volume, ...encryption }
  if (place?.s3) return { s3: place.s3, ...encryption }
  if (!backup)
    throw new KvidxError(
      'invalid_parameter',
      'bootstrap.restore: the database has no backup destination, and the source names none',
      { field: 'bootstrap.restore.source' },
    )
  return configuredStore(backup)
}

function importTask(
  given: NonNullable<Bootstrap['import']>,
  dynamic: DynamicConfig,
  database: DatabaseConfig,
  engine: FillTask['engine'],
  now: number,
): FillTask {
  const { volume, path, format, onDuplicate } = given
  return {
    kind: 'import',
    file: volume ? { path: join(volume.directory, path) } : { store: storeOf(given, dynamic), key: path },
    format,
    onDuplicate,
    engine,
    maxDataBytes: database.limits.maxDataBytes,
    scratch: join(database.dataDirectory, 'staging', 'import-scratch'),
    now,
  }
}

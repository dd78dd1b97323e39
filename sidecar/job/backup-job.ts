import { KvidxError } from '../../src/common/errors.ts'
import {
  type BackupContext,
  type BackupResult,
  backupFull,
  backupIncremental,
  type SourceRecord,
} from '../backup/backup.ts'
import { type Backup, type LineageCatalog, readBackup, readLineage } from '../backup/catalog.ts'
import type { BackupKind, Home } from '../backup/layout.ts'
import { chooseParent } from '../backup/parent.ts'
import { fromSlices } from '../backup/sliced-source.ts'
import type { SnapshotSource } from '../backup/snapshot-source.ts'
import { readFile } from '../backup/stored-file.ts'
import { verifyBackup } from '../backup/verify.ts'
import { describeStored } from './catalog-job.ts'
import type { DatabaseClient, SourceInfo } from './database-client.ts'
import { type JudgedIncrement, verifyNewIncrements } from './increments.ts'
import { failureOf, type JobProgress } from './job-report.ts'

export interface BackupJobRequest {
  readonly name: string
  /** A stored backup of this name is what an earlier attempt of this run made, and is taken; false: it is another one, so the name is refused. */
  readonly retry: boolean
  /** Undefined: made by hand, so retention leaves it alone. */
  readonly schedule?: string
  readonly type: BackupKind
  readonly verify: boolean
  /** Schedules whose increments continue this backup: their claim on the change log moves up to it. */
  readonly incrementalSchedules: readonly string[]
  /** Directory for the scratch engine; exists. */
  readonly scratch: string
}

/** One line of JSON for whoever started the job. */
export interface BackupJobResult {
  readonly name: string
  readonly phase: 'Completed' | 'Failed'
  readonly type?: BackupKind
  /** Why an increment became Full. */
  readonly fallback?: string
  /** Of a Full: the database let no snapshot be held, so it was read in so many key slices. */
  readonly slices?: number
  readonly lineage?: string
  /** epoch.seq */
  readonly position?: string
  readonly records?: number
  readonly dataBytes?: number
  readonly storedBytes?: number
  readonly digest?: string
  readonly location?: string
  readonly parent?: string
  readonly schedule?: string
  readonly engine?: string
  readonly version?: string
  readonly startedAt: string
  readonly completedAt?: string
  readonly verifiedAt?: string
  readonly verification: 'Verified' | 'Failed' | 'Skipped' | 'Pending'
  /** Increments before it that were verified along with it. */
  readonly increments?: readonly JudgedIncrement[]
  readonly error?: string
  readonly code?: string
}

/**
 * Makes a backup, reads it back from the store, and with `verify` restores and compares it. Never rejects: what went wrong stands in the result. With
 * `retry` a name that the store has already is a job that is tried again: the stored backup is taken, and only what is missing is done.
 */
export async function runBackupJob(
  context: BackupContext,
  client: DatabaseClient,
  request: BackupJobRequest,
  progress: JobProgress = () => {},
): Promise<BackupJobResult> {
  const startedAt = new Date(context.clock.now()).toISOString()
  const base = { name: request.name, startedAt, ...(request.schedule !== undefined && { schedule: request.schedule }) }
  let made: Made | undefined
  let result: BackupJobResult
  try {
    const info = await client.source()
    await claimLog(client, info, request)
    const home: Home = { namespace: info.namespace, database: info.database, lineage: info.lineage }
    made = await make(context, client, info, home, request, progress)
    const { backup } = made
    const done = { ...base, phase: 'Completed' as const, ...describeBackup(context, made) }
    if (request.verify) {
      const catalog = await readLineage(context.store, home, context.signal)
      const recorded = made.recorded ?? (await client.recordedAt(backup.position))
      const total = Number(backup.manifest.count)
      const verification = await verifyBackup(context, catalog, backup, {
        recorded,
        engine: info.engine,
        scratch: request.scratch,
        progress: ({ stage, records }) => progress(`verifying ${stage}`, records, total),
      })
      if (verification.result !== 'Verified') throw verificationError(backup, verification)
      result = { ...done, verification: 'Verified', verifiedAt: verification.completedAt }
    } else {
      await readBack(context, backup, progress)
      result = { ...done, verification: 'Skipped' }
    }
    // also where the Full itself is not verified: nothing else would ever judge them, if no Full is
    if (backup.kind === 'Full') {
      const where = { scratch: request.scratch, engine: info.engine }
      const increments = await verifyNewIncrements(context, client, home, where, progress)
      if (increments.length > 0) result = { ...result, increments }
    }
    await moveClaims(client, request, backup)
  } catch (thrown) {
    const { code, message } = failureOf(thrown)
    result = {
      ...base,
      phase: 'Failed',
      ...(made && describeBackup(context, made)),
      verification: made && request.verify ? 'Failed' : 'Pending',
      error: message,
      code,
    }
  }
  // a name that was refused is no backup that failed
  if (result.code !== 'backup_exists') await client.report({ kind: 'backup', ...result }).catch(() => undefined)
  return result
}

export function verificationError(backup: Backup, verification: NonNullable<Backup['verification']>): KvidxError {
  const failed = verification.checks.find(check => !check.ok)
  const why =
    verification.result === 'Consistent'
      ? 'it restores and equals its own manifest, but what the database recorded at its position is no longer known'
      : (verification.error?.message ?? `${failed?.name}: expected ${failed?.expected}, found ${failed?.found}`)
  return new KvidxError('backup_corrupt', `the backup ${backup.name} is not verified: ${why}`, {
    result: verification.result,
  })
}

interface Made {
  readonly backup: Backup
  /** What the source recorded; undefined when the backup was there already. */
  readonly recorded: SourceRecord | undefined
  readonly fallback?: string
  readonly slices?: number
}

async function make(
  context: BackupContext,
  client: DatabaseClient,
  info: SourceInfo,
  home: Home,
  request: BackupJobRequest,
  progress: JobProgress,
): Promise<Made> {
  const catalog = await readLineage(context.store, home, context.signal)
  const known = catalog.backups.find(backup => backup.name === request.name)
  if (known) {
    // a Full may be what an increment became; an increment is never what was asked for as a Full
    if (!request.retry || (request.type === 'Full' && known.kind !== 'Full'))
      throw new KvidxError(
        'backup_exists',
        `the store has the ${known.kind} '${known.name}' already, in ${known.path}; choose another name`,
        { name: known.name, path: known.path },
      )
    return { backup: known, recorded: undefined }
  }
  const choice = request.type === 'Full' ? undefined : choose(catalog, info)
  if (choice?.kind === 'Incremental') {
    try {
      const changes = client.changes(info, choice.parent.position)
      progress('storing changes', 0)
      const result = await backupIncremental(context, { home, ...request }, choice.parent, {
        ...changes,
        frames: () => counted(changes.frames(), bytes => progress('storing changes', bytes)),
      })
      return made(context, home, 'Incremental', result)
    } catch (thrown) {
      // trimmed between the look and the reading
      if (!(thrown instanceof KvidxError) || thrown.code !== 'log_trimmed') throw thrown
      return { ...(await full(context, client, home, request, progress)), fallback: thrown.message }
    }
  }
  const stored = await full(context, client, home, request, progress)
  return choice ? { ...stored, fallback: choice.reason } : stored
}

/** As chooseParent; behind a restore or an import by swap the first backup is Full. */
function choose(catalog: LineageCatalog, info: SourceInfo): ReturnType<typeof chooseParent> {
  const newest = info.epochs.at(-1)
  const swapped = newest?.reason === 'restored' || newest?.reason === 'imported'
  if (swapped && !catalog.backups.some(backup => backup.kind === 'Full' && backup.position.epoch === newest.epoch))
    return { kind: 'Full', reason: `the database was ${newest.reason} and has no Full since (epoch ${newest.epoch})` }
  return chooseParent(catalog, info.epochs, info.position, info.logBase)
}

async function full(
  context: BackupContext,
  client: DatabaseClient,
  home: Home,
  request: BackupJobRequest,
  progress: JobProgress,
): Promise<Made> {
  try {
    return await store(context, home, request, await client.snapshot(), progress)
  } catch (thrown) {
    if (!(thrown instanceof KvidxError) || thrown.code !== 'snapshot_cut') throw thrown
  }
  // the disk must not fill for a backup: what is given up was one moment, what comes now is put together of many
  const options = { directory: `${request.scratch}/slices`, progress, signal: context.signal }
  try {
    const database = await client.slices(`backup/${request.name}`.slice(0, 128))
    return await fromSlices(database, options, async (source, slices) => ({
      ...(await store(context, home, request, source, progress)),
      slices,
    }))
  } catch (thrown) {
    if (!(thrown instanceof KvidxError) || thrown.code !== 'log_trimmed') throw thrown
    throw new KvidxError(
      'log_trimmed',
      `no snapshot can be held (limits.snapshotGrowth), and changes were trimmed from the log before they were replayed (changeLog.maxSize): one of them must be larger, or fewer changes be made during the backup; ${thrown.message}`,
      thrown.details,
      thrown,
    )
  }
}

/** Releases the snapshot. */
async function store(
  context: BackupContext,
  home: Home,
  request: BackupJobRequest,
  snapshot: SnapshotSource,
  progress: JobProgress,
): Promise<Made> {
  const total = 24 + 32 * Number(snapshot.state.count) + Number(snapshot.state.dataBytes)
  const source: SnapshotSource = {
    ...snapshot,
    records: () => counted(snapshot.records(), bytes => progress('storing', bytes, total)),
  }
  try {
    return await made(context, home, 'Full', await backupFull(context, { home, ...request }, source))
  } finally {
    snapshot.release()
  }
}

async function made(context: BackupContext, home: Home, kind: BackupKind, result: BackupResult): Promise<Made> {
  const backup = await readBackup(context.store, home, kind, result.directory, context.signal)
  return { backup, recorded: result.recorded }
}

/** Reads every file back: a backup is Completed only when the store has it. Errors: backup_corrupt and the store's. */
export async function readBack(context: BackupContext, backup: Backup, progress: JobProgress): Promise<void> {
  const { manifest, path } = backup
  const total = manifest.files.reduce((sum, file) => sum + file.plainSize, 0)
  let done = 0
  for (const file of manifest.files)
    for await (const chunk of readFile(context, path, file, manifest.encryption)) {
      done += chunk.length
      progress('reading back', done, total)
    }
}

/** Before the first backup of an incremental schedule nothing pins the log: from here on it does. */
async function claimLog(client: DatabaseClient, info: SourceInfo, request: BackupJobRequest): Promise<void> {
  for (const schedule of request.incrementalSchedules)
    if (!info.consumers[consumerOf(schedule)]) await client.setConsumer(consumerOf(schedule), info.position)
}

async function moveClaims(client: DatabaseClient, request: BackupJobRequest, backup: Backup): Promise<void> {
  for (const schedule of request.incrementalSchedules) await client.setConsumer(consumerOf(schedule), backup.position)
}

function consumerOf(schedule: string): string {
  return `schedule/${schedule}`
}

function describeBackup(context: BackupContext, { backup, fallback, slices }: Made) {
  return {
    ...describeStored(backup, context.store.location),
    ...(fallback !== undefined && { fallback }),
    ...(slices !== undefined && { slices }),
  }
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  passed: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  let bytes = 0
  for await (const chunk of source) {
    bytes += chunk.length
    passed(bytes)
    yield chunk
  }
}

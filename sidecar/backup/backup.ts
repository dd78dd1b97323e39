import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { formatDigest } from '../database/digest.ts'
import { changeFileHeader, type FrameHeader, FrameSplitter, readFrameHeader } from '../database/frame.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition } from '../database/position.ts'
import type { Backup } from './catalog.ts'
import { ENCRYPTION_ALGORITHM } from './crypt.ts'
import {
  type BackupKind,
  backupDirectoryName,
  backupPath,
  CHANGES,
  EXPIRIES,
  type Home,
  kindPath,
  MANIFEST,
  parseBackupDirectoryName,
  RECORDS,
} from './layout.ts'
import { encodeManifest, epochDocuments, MANIFEST_VERSION, type Manifest } from './manifest.ts'
import type { ChangesSource, SnapshotSource } from './snapshot-source.ts'
import { listFolders } from './store/store.ts'
import { type FileContext, storeFile } from './stored-file.ts'

export interface BackupContext extends FileContext {
  readonly clock: Clock
  /** Name and version of this program. */
  readonly software: string
}

export interface BackupRequest {
  readonly home: Home
  /** Unique in the lineage and kind: a second backup of the name is refused. */
  readonly name: string
  /** The schedule that asks; undefined: made by hand. */
  readonly schedule?: string
  /** It is good only once verified. */
  readonly verify: boolean
}

/** What the source had recorded of the moment that a backup holds. A verification compares with this and not only with what was stored. */
export interface SourceRecord {
  readonly position: Position
  readonly count: bigint
  readonly dataBytes: bigint
  readonly digest: bigint
  readonly minKey?: bigint
  readonly maxKey?: bigint
}

export interface BackupResult {
  readonly directory: string
  /** Key prefix, ends in `/`. */
  readonly path: string
  readonly manifest: Manifest
  readonly recorded: SourceRecord
}

const BINARY_HEADER = 24
const RECORD_HEADER = 32

/**
 * Stores a Full. The manifest comes last and create-only; what an attempt that failed leaves has no manifest and is removed by `prune` after a day. The
 * caller releases the source. Errors: backup_exists, foreign_lineage, internal (the source gave other data than it recorded), the store's and the source's.
 */
export async function backupFull(
  context: BackupContext,
  request: BackupRequest,
  source: SnapshotSource,
): Promise<BackupResult> {
  const attempt = await begin(context, request, 'Full', source.lineage)
  const { state } = source
  const size = BINARY_HEADER + RECORD_HEADER * Number(state.count) + Number(state.dataBytes)
  const records = await storeFile(context, attempt.path, RECORDS, 'records', source.records(), size)
  if (records.plainSize !== size)
    throw new KvidxError(
      'internal',
      `the snapshot at ${formatPosition(state.position)} gave ${records.plainSize} bytes of records; ${state.count} records with ${state.dataBytes} bytes of data make ${size}`,
    )
  const expiriesAtMost = 16 + Number(state.expiring) * (17 + 80)
  const expiries = await storeFile(context, attempt.path, EXPIRIES, 'expiries', source.expiries(), expiriesAtMost)
  const recorded: SourceRecord = {
    position: state.position,
    count: state.count,
    dataBytes: state.dataBytes,
    digest: state.digest,
    ...(source.minKey !== undefined && { minKey: source.minKey }),
    ...(source.maxKey !== undefined && { maxKey: source.maxKey }),
  }
  return finish(context, attempt, source, recorded, state.time, { files: [records, expiries] })
}

/**
 * Stores the commits behind a parent. Errors: those of backupFull; log_trimmed when the change log does not reach back to the parent (then a Full
 * is due); backup_gap when the source leaves changes out.
 */
export async function backupIncremental(
  context: BackupContext,
  request: BackupRequest,
  parent: Backup,
  source: ChangesSource,
): Promise<BackupResult> {
  const attempt = await begin(context, request, 'Incremental', source.lineage)
  const walk = new CommitWalk(parent)
  const changes = await storeFile(context, attempt.path, CHANGES, 'changes', walk.file(source.frames()))
  return finish(context, attempt, source, walk.recorded, walk.time, {
    files: [changes],
    parent: { kind: parent.kind, directory: parent.directory, position: formatPosition(parent.position) },
  })
}

interface Attempt {
  readonly request: BackupRequest
  readonly kind: BackupKind
  readonly time: number
  readonly directory: string
  readonly path: string
}

async function begin(
  context: BackupContext,
  request: BackupRequest,
  kind: BackupKind,
  lineage: string,
): Promise<Attempt> {
  const { home, name } = request
  if (lineage !== home.lineage)
    throw new KvidxError(
      'foreign_lineage',
      `the source has lineage ${lineage}, the backup is meant for ${home.lineage}`,
      { lineage },
    )
  const time = context.clock.now()
  const directory = backupDirectoryName({ time, name })
  const prefix = kindPath(home, kind)
  for (const folder of await listFolders(context.store, prefix, context.signal)) {
    if (parseBackupDirectoryName(folder.slice(prefix.length, -1))?.name !== name) continue
    if (await context.store.head(folder + MANIFEST, context.signal)) throw exists(name, folder)
  }
  return { request, kind, time, directory, path: backupPath(home, { kind, time, name }) }
}

async function finish(
  context: BackupContext,
  attempt: Attempt,
  source: ChangesSource | SnapshotSource,
  recorded: SourceRecord,
  commitTime: bigint,
  rest: Pick<Manifest, 'files' | 'parent'>,
): Promise<BackupResult> {
  const { request, kind, directory, path } = attempt
  const key = context.keys.current
  const manifest: Manifest = {
    formatVersion: MANIFEST_VERSION,
    kind,
    name: request.name,
    namespace: request.home.namespace,
    database: request.home.database,
    lineage: request.home.lineage,
    ...(request.schedule !== undefined && { schedule: request.schedule }),
    verify: request.verify,
    engine: source.engine,
    engineVersion: source.engineVersion,
    epochs: epochDocuments(source.epochs),
    position: formatPosition(recorded.position),
    commitTime: String(commitTime),
    count: String(recorded.count),
    dataBytes: String(recorded.dataBytes),
    digest: formatDigest(recorded.digest),
    ...(recorded.minKey !== undefined && { minKey: String(recorded.minKey) }),
    ...(recorded.maxKey !== undefined && { maxKey: String(recorded.maxKey) }),
    ...rest,
    ...(key && { encryption: { algorithm: ENCRYPTION_ALGORITHM, keyId: key.id } }),
    startedAt: new Date(attempt.time).toISOString(),
    completedAt: new Date(context.clock.now()).toISOString(),
    software: context.software,
  }
  const written = await context.store.putIfAbsent(path + MANIFEST, encodeManifest(manifest), context.signal)
  if (written === 'exists') throw exists(request.name, path)
  return { directory, path, manifest, recorded }
}

function exists(name: string, path: string): KvidxError {
  return new KvidxError('backup_exists', `there is a backup '${name}' already, in ${path}`, { name, path })
}

/** Passes frames on and keeps what the last of them says. */
class CommitWalk {
  #position: Position
  #time: bigint
  #after: { count: bigint; dataBytes: bigint; digest: bigint }

  constructor(parent: Backup) {
    this.#position = parent.position
    this.#time = parent.commitTime
    const { count, dataBytes, digest } = parent.manifest
    // an increment without a commit holds what its parent holds
    this.#after = { count: BigInt(count), dataBytes: BigInt(dataBytes), digest: BigInt(`0x${digest}`) }
  }

  get recorded(): SourceRecord {
    return { position: this.#position, ...this.#after }
  }

  get time(): bigint {
    return this.#time
  }

  async *file(frames: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    yield changeFileHeader('commits')
    const splitter = new FrameSplitter()
    for await (const chunk of frames) {
      const whole = splitter.push(chunk)
      for (const frame of whole) this.#pass(frame)
      if (whole.length > 0) yield Buffer.concat(whole)
    }
    splitter.end()
  }

  #pass(frame: Buffer): void {
    const header: FrameHeader = readFrameHeader(frame)
    if (header.firstSeq !== this.#position.seq + 1n || header.epoch < this.#position.epoch)
      throw new KvidxError(
        'backup_gap',
        `the source continues ${formatPosition(this.#position)} with seq ${header.firstSeq} of epoch ${header.epoch}: changes between are missing`,
      )
    this.#position = { epoch: header.epoch, seq: header.lastSeq }
    this.#time = header.time
    this.#after = header.after
  }
}

import { mkdir, rm } from 'node:fs/promises'
import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseState } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition } from '../database/position.ts'
import { readTotals } from '../database/record-stream.ts'
import { type EngineKind, type EngineWriter, EVERY_KEY } from '../engine/engine.ts'
import { openReader, openWriter } from '../engine/open.ts'
import { fillTuning } from '../engine/settings.ts'
import type { BackupContext, SourceRecord } from './backup.ts'
import type { Backup, LineageCatalog } from './catalog.ts'
import { resolveChain } from './chain.ts'
import { MANIFEST, VERIFICATION } from './layout.ts'
import { fill, type RestoreProgress } from './restore.ts'
import { type CheckName, encodeVerification, type Verification, type VerificationCheck } from './verification.ts'

export interface VerifyOptions {
  /** What the source recorded; undefined when nobody knows it any more: then the result is at best Consistent. */
  readonly recorded: SourceRecord | undefined
  /** Scratch engine; the one of the source shows most. */
  readonly engine: EngineKind
  /** Directory for the scratch engine: exists and is empty; emptied afterwards. */
  readonly scratch: string
  readonly progress?: (progress: RestoreProgress) => void
  readonly onIncrement?: (backup: Backup, state: DatabaseState) => void
}

/** Errors that say something about the backup. Any other says that the verification could not be done, and is thrown. */
const FINDINGS = new Set(['backup_corrupt', 'backup_gap', 'foreign_lineage', 'invalid_manifest', 'backup_not_found'])

/**
 * Reads a backup back from the store, restores it into a scratch engine, reads that engine from end to end, compares, and writes verification.json beside the
 * manifest. A damaged backup gives a result of Failed that names the damage. Errors: wrong_encryption_key, store_unreachable, store_denied, cancelled,
 * insufficient_space, engine errors: nothing is written then.
 * @param catalog of the lineage, with what the backup continues
 */
export async function verifyBackup(
  context: BackupContext,
  catalog: LineageCatalog,
  backup: Backup,
  options: VerifyOptions,
): Promise<Verification> {
  const startedAt = new Date(context.clock.now()).toISOString()
  const checks = new Checks()
  const chain: string[] = []
  let error: KvidxError | undefined
  let found: Found | undefined
  try {
    const resolved = resolveChain(catalog, { kind: 'backup', name: backup.directory })
    chain.push(resolved.base.directory)
    for (const source of resolved.changes) if (source.type === 'increment') chain.push(source.backup.directory)
    found = await restoreAndRead(context, resolved, options)
    checks.add('files', true)
    checks.add('structure', true)
    compareWithManifest(checks, found, backup)
    compareWithSource(checks, found, options.recorded ?? earlierRecord(backup))
  } catch (thrown) {
    if (!(thrown instanceof KvidxError) || !FINDINGS.has(thrown.code)) throw thrown
    error = thrown
    checks.add(checkOf(thrown), false, thrown.details.expected, thrown.details.found)
  }
  const verification: Verification = {
    formatVersion: 1,
    name: backup.name,
    directory: backup.directory,
    result: error || checks.failed ? 'Failed' : checks.has('source') ? 'Verified' : 'Consistent',
    checks: checks.list,
    ...(found && { position: found.position, count: found.count, digest: found.digest }),
    chain,
    engine: options.engine,
    ...(error && { error: { code: error.code, message: error.message.slice(0, 1000) } }),
    startedAt,
    completedAt: new Date(context.clock.now()).toISOString(),
    software: context.software,
  }
  await save(context, backup, verification)
  return verification
}

/** Errors: backup_not_found when the backup was removed meanwhile: a result of it would bring its directory back, or refute what nobody can look at any more. */
async function save({ store, signal }: BackupContext, { path }: Backup, verification: Verification): Promise<void> {
  if (!(await store.head(path + MANIFEST, signal)))
    throw new KvidxError('backup_not_found', `${path} was removed from ${store.location} while it was being verified`)
  await store.put(path + VERIFICATION, encodeVerification(verification), signal && { signal })
}

/**
 * Verifies an increment, and by the same replay all before it in its chain that have no verification yet; when it fails, its Full, too, if that has none.
 * Returns those that were judged, the last one first.
 * @param recordedAt what the source recorded at a position, where it still knows. Errors: as verifyBackup.
 */
export async function verifyIncrements(
  context: BackupContext,
  catalog: LineageCatalog,
  last: Backup,
  recordedAt: (position: Position) => Promise<SourceRecord | undefined>,
  options: Omit<VerifyOptions, 'recorded' | 'onIncrement'>,
): Promise<Verification[]> {
  const passed: { backup: Backup; state: DatabaseState }[] = []
  const onIncrement = (backup: Backup, state: DatabaseState) => {
    if (!backup.verification && backup.directory !== last.directory) passed.push({ backup, state })
  }
  const whole = await verifyBackup(context, catalog, last, {
    ...options,
    recorded: await recordedAt(last.position),
    onIncrement,
  })
  // what could not be played to its end proves nothing of what came before; but a Full that nobody verified may be what is damaged, and would go on as good
  if (whole.result === 'Failed') {
    const base = catalog.backups.find(({ directory }) => directory === whole.chain[0])
    if (!base || base.verification) return [whole]
    return [
      whole,
      await verifyBackup(context, catalog, base, { ...options, recorded: await recordedAt(base.position) }),
    ]
  }
  const judged = [whole]
  for (const { backup, state } of passed) {
    const checks = new Checks()
    const found = {
      position: formatPosition(state.position),
      count: String(state.count),
      dataBytes: String(state.dataBytes),
      digest: formatDigest(state.digest),
    }
    checks.add('files', true)
    checks.add('structure', true)
    compareWithManifest(checks, found, backup)
    compareWithSource(checks, found, await recordedAt(backup.position))
    const { position, count, digest } = found
    const verification: Verification = {
      ...whole,
      name: backup.name,
      directory: backup.directory,
      result: checks.failed ? 'Failed' : checks.has('source') ? 'Verified' : 'Consistent',
      checks: checks.list,
      ...{ position, count, digest },
      chain: whole.chain.slice(0, whole.chain.indexOf(backup.directory) + 1),
    }
    await save(context, backup, verification)
    judged.push(verification)
  }
  return judged
}

/** What the scratch engine holds, by reading all of it. */
interface Found {
  readonly position: string
  readonly count: string
  readonly dataBytes: string
  readonly digest: string
  readonly minKey?: string
  readonly maxKey?: string
}

async function restoreAndRead(
  context: BackupContext,
  chain: Parameters<typeof fill>[2],
  options: VerifyOptions,
): Promise<Found> {
  const { engine, scratch, progress, onIncrement } = options
  const directory = `${scratch}/verify`
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { mode: 0o700 })
  let writer: EngineWriter | undefined
  try {
    writer = await openWriter({ kind: engine, directory, tuning: fillTuning(engine) })
    const { reached } = await fill(context, writer, chain, {
      readBack: true,
      ...(progress && { progress }),
      ...(onIncrement && { onIncrement }),
    })
    writer.close()
    writer = await openWriter({ kind: engine, directory, tuning: { syncMode: 'Off' } })
    return { position: formatPosition(reached.position), ...(await readEngine(writer, context.signal)) }
  } finally {
    writer?.close()
    await rm(directory, { recursive: true, force: true })
  }
}

async function readEngine(writer: EngineWriter, signal: AbortSignal | undefined): Promise<Omit<Found, 'position'>> {
  const reader = await openReader(writer.share)
  try {
    const snapshot = reader.snapshot()
    try {
      const totals = await readTotals(snapshot, () => {
        if (signal?.aborted) throw new KvidxError('cancelled', 'the verification was cancelled')
      })
      const minKey = firstKey(snapshot, false)
      const maxKey = firstKey(snapshot, true)
      return {
        count: String(totals.count),
        dataBytes: String(totals.dataBytes),
        digest: formatDigest(totals.digest),
        ...(minKey !== undefined && { minKey }),
        ...(maxKey !== undefined && { maxKey }),
      }
    } finally {
      snapshot.release()
    }
  } finally {
    reader.close()
  }
}

function firstKey(
  view: { scan: ReturnType<Awaited<ReturnType<typeof openReader>>['snapshot']>['scan'] },
  descending: boolean,
): string | undefined {
  let key: string | undefined
  view.scan(EVERY_KEY, descending, record => {
    key = String(record.key)
    return false
  })
  return key
}

class Checks {
  readonly list: VerificationCheck[] = []

  add(name: CheckName, ok: boolean, expected?: unknown, found?: unknown): void {
    this.list.push({
      name,
      ok,
      ...(expected !== undefined && { expected: String(expected) }),
      ...(found !== undefined && { found: String(found) }),
    })
  }

  compare(name: CheckName, expected: string | undefined, found: string | undefined): void {
    this.add(name, expected === found, expected ?? 'none', found ?? 'none')
  }

  has(name: CheckName): boolean {
    return this.list.some(check => check.name === name)
  }

  get failed(): boolean {
    return this.list.some(check => !check.ok)
  }
}

function compareWithManifest(checks: Checks, found: Found, { manifest }: Backup): void {
  checks.compare('position', manifest.position, found.position)
  checks.compare('count', manifest.count, found.count)
  checks.compare('dataBytes', manifest.dataBytes, found.dataBytes)
  checks.compare('digest', manifest.digest, found.digest)
  if (manifest.kind !== 'Full') return
  checks.compare('minKey', manifest.minKey, found.minKey)
  checks.compare('maxKey', manifest.maxKey, found.maxKey)
}

/** One line for all that the source recorded, so that an earlier verification's can be compared again. */
function compareWithSource(checks: Checks, found: Found, recorded: string | SourceRecord | undefined): void {
  if (recorded === undefined) return
  const expected = typeof recorded === 'string' ? recorded : recordLine(recorded)
  checks.compare('source', expected, `${found.position} ${found.count} ${found.dataBytes} ${found.digest}`)
}

function recordLine({ position, count, dataBytes, digest }: SourceRecord): string {
  return `${formatPosition(position)} ${count} ${dataBytes} ${formatDigest(digest)}`
}

/** What an earlier verification was given by the source. */
function earlierRecord(backup: Backup): string | undefined {
  return backup.verification?.checks.find(check => check.name === 'source')?.expected
}

/** Which check an error stands for. */
function checkOf(error: KvidxError): CheckName {
  const named = error.details.check
  if (
    named === 'count' ||
    named === 'dataBytes' ||
    named === 'minKey' ||
    named === 'maxKey' ||
    named === 'digest' ||
    named === 'position'
  )
    return named
  return error.details.file !== undefined ? 'files' : 'structure'
}

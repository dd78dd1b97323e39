import { BACKUP_TYPES, type BackupType } from '../../api/v1alpha1/backup.ts'
import { BACKUP_PHASES, type BackupPhase, type KvidxBackupStatus } from '../../api/v1alpha1/kvidx-backup.ts'
import { KvidxError } from '../../common/errors.ts'
import { formatBytes } from '../../common/quantity.ts'
import { timeText } from './record.ts'

/** What `kvidx job` prints about a backup, as members of a KvidxBackup's status. */
export interface JobResult {
  readonly phase: BackupPhase
  readonly status: Omit<KvidxBackupStatus, 'phase' | 'conditions' | 'observedGeneration'>
}

const LARGEST_COUNT = 2 ** 53 - 1

/**
 * Reads the result line. Members that are not known are left out, so that a newer job still reports to an older operator.
 * Errors: invalid_body when it is no object with a known phase.
 */
export function parseJobResult(text: string): JobResult {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new KvidxError('invalid_body', `the result of the job is not JSON: ${(cause as Error).message}`, {}, cause)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new KvidxError('invalid_body', 'the result of the job is not an object')
  const result = value as Readonly<Record<string, unknown>>
  const phase = BACKUP_PHASES.find(known => known === result.phase)
  if (!phase)
    throw new KvidxError(
      'invalid_body',
      `the result of the job has the phase '${String(result.phase)}' (allowed: ${BACKUP_PHASES.join(', ')})`,
    )
  const storedBytes = count(result.storedBytes)
  const failure = errorOf(result)
  const verifiedAt = moment(result.verifiedAt)
  return {
    phase,
    status: defined({
      lineage: line(result.lineage, 64),
      position: line(result.position, 64),
      records: count(result.records),
      dataBytes: count(result.dataBytes),
      storedBytes,
      size: storedBytes === undefined ? undefined : formatBytes(storedBytes),
      digest: line(result.digest, 32),
      slices: count(result.slices),
      location: line(result.location, 1024),
      type: BACKUP_TYPES.find(known => known === (result.type ?? result.kind)) as BackupType | undefined,
      parent: parentName(line(result.parent, 256)),
      startedAt: moment(result.startedAt),
      completedAt: moment(result.completedAt),
      verifiedAt,
      verification: verifiedAt === undefined ? undefined : ('Verified' as const),
      engine: line(result.engine, 64),
      version: line(result.version, 64),
      ...failure,
    }),
  }
}

/** The store names a parent by its directory, `<time>-<name>`; its KvidxBackup has the name alone. */
function parentName(directory: string | undefined): string | undefined {
  return directory?.replace(/^\d{8}T\d{9}Z-/, '')
}

function errorOf({ error, code }: Readonly<Record<string, unknown>>): { error?: string; code?: string } {
  if (error === undefined || error === null) return {}
  const nested = typeof error === 'object' ? (error as Readonly<Record<string, unknown>>) : {}
  const message = line(typeof error === 'object' ? (nested.message ?? nested.detail) : error, 4096) ?? 'unknown'
  const stable = line(code ?? nested.code, 64)
  return { error: message, ...(stable !== undefined && { code: stable }) }
}

function line(value: unknown, longest: number): string | undefined {
  return typeof value === 'string' && value !== '' ? value.slice(0, longest) : undefined
}

/** A u64 is a decimal string; the API keeps what a double can hold. */
function count(value: unknown): number | undefined {
  if (typeof value !== 'number' && typeof value !== 'string') return undefined
  if (typeof value === 'string' && !/^\d{1,20}$/.test(value)) return undefined
  const amount = Number(value)
  return Number.isFinite(amount) && amount >= 0 ? Math.min(Math.floor(amount), LARGEST_COUNT) : undefined
}

function moment(value: unknown): string | undefined {
  const time = typeof value === 'number' ? value : typeof value === 'string' ? Date.parse(value) : Number.NaN
  return Number.isFinite(time) && Math.abs(time) < 8.64e15 ? timeText(time) : undefined
}

function defined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
}

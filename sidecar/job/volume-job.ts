import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { databaseConfig } from '../database/config.ts'
import { formatDigest } from '../database/digest.ts'
import { LocalDatabase } from '../database/local-database.ts'
import { formatPosition } from '../database/position.ts'
import { damaged } from '../database/recovery.ts'
import { readIdentity } from '../volume/identity.ts'
import { volumeLayout } from '../volume/layout.ts'
import { failureOf } from './job-report.ts'

/** What a copy of a data volume holds, once it was opened and read from end to end. */
export interface VolumeJobResult {
  readonly kind: 'volume'
  readonly phase: 'Completed' | 'Failed'
  readonly lineage?: string
  readonly engine?: string
  /** epoch.seq */
  readonly position?: string
  readonly records?: number
  readonly dataBytes?: number
  readonly digest?: string
  readonly verifiedAt?: string
  readonly error?: string
  readonly code?: string
}

/** The lock of the copy is nobody's: who holds it for longer than this is a second job, ms. */
const LOCK_TIMEOUT = 10_000

/**
 * Opens a copy of a data volume as a database does after a power loss, has the engine check itself, and compares counters and content. The copy is written
 * to, so it must be one that nobody needs. Never rejects.
 */
export async function runVolumeJob(
  dataDirectory: string,
  clock: Clock,
  log: Logger,
  signal: AbortSignal,
): Promise<VolumeJobResult> {
  try {
    const { identity } = await readIdentity(volumeLayout(dataDirectory))
    if (!identity)
      throw new KvidxError('backup_corrupt', `${dataDirectory} is no volume of a database: no identity.json`)
    const { namespace, name, engine, lineage } = identity
    const config = databaseConfig({ namespace, name, engine, lineage, dataDirectory, lockTimeout: LOCK_TIMEOUT })
    const database = new LocalDatabase(config, clock, log)
    try {
      await database.open(signal)
      await compare(database, signal)
      const { position, count, dataBytes, digest } = database.state
      return {
        kind: 'volume',
        phase: 'Completed',
        lineage,
        engine,
        position: formatPosition(position),
        records: Number(count),
        dataBytes: Number(dataBytes),
        digest: formatDigest(digest),
        verifiedAt: new Date(clock.now()).toISOString(),
      }
    } finally {
      await database.close()
    }
  } catch (thrown) {
    const { code, message } = failureOf(thrown)
    return { kind: 'volume', phase: 'Failed', error: message, code }
  }
}

/** Unlike the database's own check it mends nothing. Errors: engine_corrupt. */
async function compare(database: LocalDatabase, signal: AbortSignal): Promise<void> {
  const { readers } = database.session()
  const { problems } = await readers.call('integrity', {}, signal)
  if (problems.length > 0) throw damaged(problems)
  const snapshot = await readers.snapshot(signal)
  try {
    const { state } = snapshot
    const found = await snapshot.call('totals', {}, signal)
    if (found.count !== state.count || found.dataBytes !== state.dataBytes || found.digest !== state.digest)
      throw new KvidxError(
        'engine_corrupt',
        `the counters say ${state.count} records with digest ${formatDigest(state.digest)}, a scan finds ${found.count} with ${formatDigest(found.digest)}`,
      )
  } finally {
    snapshot.release()
  }
}

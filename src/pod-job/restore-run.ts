import type { KvidxRestoreSpec } from '../api/v1alpha1/kvidx-restore.ts'
import { asKvidxError, KvidxError } from '../common/errors.ts'
import { timeText } from '../controllers/backup/record.ts'
import {
  changedRestore,
  isRestoreTerminal,
  RESTORES,
  type RestoreChange,
  type RestoreRecord,
  restorePatch,
} from '../controllers/restore/record.ts'
import { undefinedIfMissing } from '../kube/api-error.ts'
import type { Job } from '../kube/job.ts'
import { JOBS } from '../kube/resources.ts'
import { JOB_EXIT, type JobContext, type JobExit } from './context.ts'
import { persist } from './persist.ts'

type Document = Readonly<Record<string, unknown>>

/** The restore calls of the database's admin API. Errors: KvidxError of a problem document, Unreachable. */
export interface RestoreServer {
  /** Begins, or joins the same restore that runs. */
  begin(query: Readonly<Record<string, string>>): Promise<Document>
  /** Undefined when the process knows of none. */
  progress(): Promise<Document | undefined>
  /** Epochs, oldest first. */
  epochs(): Promise<readonly Document[]>
}

const LOOK_INTERVAL = 1000
/** Progress alone is written at most so often, ms. */
const WRITE_INTERVAL = 10_000
/** How long the database may not answer while it is restored: the swap closes and opens it, ms. */
const SILENCE = 600_000
const PHASES = ['Staging', 'Verifying', 'Swapping', 'Completed', 'Failed'] as const
/** Codes for which another attempt can only end in the same way. */
const POINTLESS: readonly string[] = [
  'superseded',
  'invalid_parameter',
  'backup_not_found',
  'backup_gap',
  'backup_corrupt',
  'foreign_lineage',
  'wrong_encryption_key',
  'insufficient_space',
  'forbidden',
  'unauthorized',
]

/** The query of the restore call. Pure. */
export function restoreQuery({ from, atEpoch, dryRun }: KvidxRestoreSpec): Record<string, string> {
  const { backup, time, position, latest } = from
  return {
    ...(backup !== undefined && { backup }),
    ...(time !== undefined && { time }),
    ...(position !== undefined && { position }),
    ...(latest !== undefined && { latest }),
    atEpoch: String(atEpoch),
    ...(dryRun === true && { dryRun: 'true' }),
    wait: 'false',
  }
}

/** One in-place restore: asks the database for it, follows it, and keeps the KvidxRestore. */
export async function runRestore(context: JobContext, server: RestoreServer, name: string): Promise<JobExit> {
  const { api, namespace, clock, log, signal } = context
  const found = await persist(context, () =>
    undefinedIfMissing(api.get<RestoreRecord>(RESTORES, { namespace, name }, { signal })),
  )
  if (!found || isRestoreTerminal(found.status)) {
    log.info({ restore: name }, found ? 'this restore has ended before' : 'there is no such KvidxRestore any more')
    return found ? JOB_EXIT.done : JOB_EXIT.pointless
  }
  const job = await api.get<Job>(JOBS, { namespace, name: context.job }, { signal })
  const repeated = found.status?.startedAt !== undefined
  let record = found
  const set = async (change: RestoreChange) => {
    const patch = restorePatch(record, changedRestore(record, change, clock.now()))
    const written = await persist(context, () =>
      undefinedIfMissing(api.patch<RestoreRecord>(RESTORES, { namespace, name }, patch, { subresource: 'status' })),
    )
    if (written) record = written
  }
  const startedAt = found.status?.startedAt ?? timeText(clock.now())
  await set({ phase: 'Staging', startedAt })
  try {
    const end = await follow(context, server, record, repeated, set)
    await set({ ...end, phase: 'Completed', completedAt: timeText(clock.now()) })
    log.info({ restore: name, target: end.target, epoch: end.epoch }, 'restore completed')
    return JOB_EXIT.done
  } catch (thrown) {
    const error = asKvidxError(thrown)
    const pointless = POINTLESS.includes(error.code)
    const last = pointless || (!signal.aborted && (job.status?.failed ?? 0) >= (job.spec?.backoffLimit ?? 0))
    log.error({ restore: name, err: error, last }, 'restore failed')
    const said = { error: error.message.slice(0, 4096), code: error.code }
    const epoch = error.details.epoch
    await set(
      last
        ? {
            ...said,
            phase: 'Failed',
            completedAt: timeText(clock.now()),
            ...(epoch !== undefined && { inEpoch: String(epoch) }),
          }
        : { ...said, phase: 'Staging', detail: `an attempt failed and is repeated: ${error.message}` },
    )
    return pointless ? JOB_EXIT.pointless : JOB_EXIT.failed
  }
}

async function follow(
  context: JobContext,
  server: RestoreServer,
  record: RestoreRecord,
  repeated: boolean,
  set: (change: RestoreChange) => Promise<void>,
): Promise<Omit<RestoreChange, 'phase'>> {
  const { clock, signal } = context
  let seen: Document | undefined
  try {
    seen = await server.begin(restoreQuery(record.spec))
  } catch (thrown) {
    const { code } = asKvidxError(thrown)
    // an attempt before this one, or its pod, did not live to write that it was done
    const done = code === 'superseded' && repeated ? await endedBy(server, record) : undefined
    if (!done) throw thrown
    return done
  }
  let writtenAt = clock.monotonic()
  let silentSince: number | undefined
  let phase = 'Staging'
  for (;;) {
    const now = PHASES.find(known => known === seen?.phase)
    if (now === 'Completed') return membersOf(seen ?? {})
    if (now === 'Failed') throw new KvidxError(asCode(seen?.code), String(seen?.error ?? 'unknown'), {})
    if (now !== undefined && (now !== phase || clock.monotonic() - writtenAt >= WRITE_INTERVAL)) {
      phase = now
      writtenAt = clock.monotonic()
      await set({ ...membersOf(seen ?? {}), phase: now })
    }
    await clock.sleep(LOOK_INTERVAL, signal)
    try {
      seen = await server.progress()
      silentSince = undefined
    } catch (thrown) {
      silentSince ??= clock.monotonic()
      if (clock.monotonic() - silentSince > SILENCE) throw thrown
      continue
    }
    if (seen) continue
    // the process began anew and knows of no restore: either it was done before that, or it was undone
    const done = await endedBy(server, record)
    if (done) return done
    throw new KvidxError('cancelled', 'the database began anew during the restore, and nothing was changed')
  }
}

/** What is known of a restore that was finished without us: the epoch that it began. */
async function endedBy(
  server: RestoreServer,
  { spec }: RestoreRecord,
): Promise<Omit<RestoreChange, 'phase'> | undefined> {
  if (spec.dryRun === true) return undefined
  const epochs = await server.epochs()
  // the epochs that a restore begins come directly behind the one that it was meant for
  const made = epochs.find(({ epoch }) => Number(epoch) === spec.atEpoch + 1)
  if (made?.reason !== 'restored') return undefined
  return { epoch: spec.atEpoch + 1, detail: 'restored; the figures of it were lost with the process' }
}

/** Members of the database's own status of a restore, as members of ours. */
function membersOf(seen: Document): Omit<RestoreChange, 'phase'> {
  const text = (name: string, longest = 1024) =>
    typeof seen[name] === 'string' ? { [name]: seen[name].slice(0, longest) } : {}
  const count = (name: string, from = name) => {
    const value = seen[from]
    const amount = typeof value === 'number' || typeof value === 'string' ? Number(value) : Number.NaN
    return Number.isSafeInteger(amount) && amount >= 0 ? { [name]: amount } : {}
  }
  const sources = Array.isArray(seen.sources) ? seen.sources.map(String).join(', ') : undefined
  return {
    ...text('target', 64),
    ...text('digest', 32),
    ...text('quarantine', 512),
    ...count('epoch'),
    ...count('records'),
    ...count('added'),
    ...count('removed'),
    ...count('changed'),
    ...(sources !== undefined && { source: sources.slice(0, 1024) }),
  }
}

function asCode(code: unknown): KvidxError['code'] {
  const known = POINTLESS.find(one => one === code)
  return (known ?? 'cancelled') as KvidxError['code']
}

import { Command, Option } from 'commander'
import { KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import { ServerClient } from './client.ts'
import { type Io, write } from './io.ts'
import { OPS_OPTION, opsAddress } from './ops-address.ts'
import { parseServer } from './server-address.ts'
import { fields } from './table.ts'

interface StatusFlags {
  readonly ops?: string
  readonly output?: 'table' | 'json'
}

interface TaskState {
  readonly name: string
  readonly running: boolean
  readonly progress?: number
  readonly lastRun?: number
  readonly lastOutcome?: string
  readonly lastMessage?: string
  readonly nextRun?: number
}

interface BackupLine {
  readonly name: string
  readonly completedAt?: string
  readonly verifiedAt?: string
  readonly error?: string
}

/** What of `/status` is shown. All of it is optional: the program may be another version's, or still starting. */
interface Status {
  readonly state: string
  readonly ready?: boolean
  readonly message?: string
  readonly failure?: { readonly code: string; readonly message: string }
  readonly namespace?: string
  readonly name?: string
  readonly started?: number
  readonly pid?: number
  readonly engineVersion?: string
  readonly health?: {
    readonly causes: readonly { readonly reason: string; readonly message: string; readonly since: number }[]
  }
  readonly data?: Readonly<Record<string, string>>
  readonly storage?: Readonly<Record<string, number | undefined>> | null
  readonly volume?: {
    readonly size?: number
    readonly free?: number
    readonly daysUntilFull?: number
    readonly quarantine?: { readonly entries: number; readonly bytes: number }
  }
  readonly certificate?: { readonly subject: string; readonly notAfter: string }
  readonly tasks?: readonly TaskState[]
  readonly backup?: {
    readonly lastSuccessful?: BackupLine
    readonly lastVerified?: BackupLine
    readonly lastFailed?: BackupLine
    readonly recoveryWindow?: { readonly from: string }
    readonly catalog?: { readonly error?: string }
    readonly continuous?: {
      readonly state: string
      readonly backlogChanges: number
      readonly rpoMs: number
      readonly failing?: { readonly message: string }
    }
  }
}

/** `kvidx status`: what a person looks at first. Exit code 0: it serves (OK or DEGRADED); 7: it does not. */
export function statusCommand(io: Io): Command {
  return new Command('status')
    .description(
      'one look at a database: does it serve, what is wrong, room, backups, tasks (operations port, no token)',
    )
    .addOption(OPS_OPTION())
    .addOption(new Option('--output <form>', 'form of the output').choices(['table', 'json']))
    .action(async (flags: StatusFlags) => {
      const address = opsAddress(flags.ops)
      const client = await ServerClient.open(parseServer(address, '--ops'))
      try {
        const status = statusOf(await (await client.call('GET', '/status', { expectAnyStatus: true })).bytes(), address)
        const json = flags.output === 'json'
        await write(io.output, json ? `${JSON.stringify(status)}\n` : statusText(status, Date.now()))
        if (!status.ready) throw new KvidxError('not_ready', 'the database is not ready')
        if (status.state === 'UNHEALTHY') throw new KvidxError('internal', 'the database is not healthy')
      } finally {
        await client.close()
      }
    })
}

/** @param now Unix ms */
export function statusText(status: Status, now: number): string {
  const { volume = {}, backup } = status
  // before it was ever open, its figures are those of nothing
  const opened = Boolean(status.engineVersion)
  const { data = {}, storage, tasks = [] } = opened ? status : {}
  const ago = (ms: number | undefined) => (ms === undefined || ms === 0 ? undefined : `${span(now - ms)} ago`)
  const size = (bytes: number | undefined) => (bytes === undefined ? undefined : formatBytes(bytes))
  const trouble = (status.health?.causes ?? []).map(
    ({ reason, message, since }) => `  ${reason}, for ${span(now - since)}: ${message}\n`,
  )
  const hindrance = status.failure?.message ?? status.message
  const head = status.ready ? status.state : `NOT READY${hindrance ? `: ${hindrance}` : ''}`
  const name = status.name === undefined ? '' : `${status.namespace ?? 'default'}/${status.name}  `
  const last = (line: BackupLine | undefined, at: string | undefined) =>
    line && `${line.name}, ${ago(at === undefined ? undefined : Date.parse(at)) ?? 'time unknown'}`
  // a volume that was lost has backups, and its store is not read before it is open again
  const none = backup?.catalog && backup.catalog.error === undefined ? 'none yet' : 'not known: the store was not read'
  const failed = newer(backup?.lastFailed, backup?.lastSuccessful)
  return (
    `${name}${head}\n${trouble.join('')}` +
    fields({
      engine: status.engineVersion || undefined,
      process: status.pid === undefined ? undefined : `${status.pid}, up ${span(now - (status.started ?? now))}`,
      records: data.count === undefined ? undefined : `${data.count}, ${formatBytes(Number(data.dataBytes))}`,
      'last commit':
        data.position === undefined ? undefined : `${data.position}, ${ago(Number(data.time)) ?? 'none yet'}`,
      files: storage
        ? `${size(storage.fileBytes)}${storage.walBytes === undefined ? '' : `, WAL ${size(storage.walBytes)}`}, ${Math.round((storage.fragmentation ?? 0) * 100)} % unused`
        : undefined,
      volume:
        volume.size === undefined
          ? undefined
          : `${size(volume.free)} free of ${size(volume.size)}${volume.daysUntilFull === undefined ? '' : `, full in ${Math.floor(volume.daysUntilFull)} days`}`,
      quarantine: volume.quarantine?.entries
        ? `${volume.quarantine.entries} entries, ${size(volume.quarantine.bytes)} (kvidx quarantine list)`
        : undefined,
      certificate: status.certificate && `${status.certificate.subject}, until ${status.certificate.notAfter}`,
      backup: backup && (last(backup.lastSuccessful, backup.lastSuccessful?.completedAt) ?? none),
      verified: backup && (last(backup.lastVerified, backup.lastVerified?.verifiedAt) ?? none),
      'backup failed': failed && `${last(failed, failed.completedAt)}: ${failed.error ?? 'reason unknown'}`,
      'backup store': backup?.catalog?.error,
      continuous:
        backup?.continuous &&
        `${backup.continuous.state}, ${backup.continuous.backlogChanges} changes not in the store, the oldest for ${span(backup.continuous.rpoMs)}${backup.continuous.failing ? `: ${backup.continuous.failing.message}` : ''}`,
      'restorable from': backup?.recoveryWindow?.from,
    }) +
    tasks.map(task => taskLine(task, now)).join('')
  )
}

function taskLine(task: TaskState, now: number): string {
  const progress = task.progress === undefined ? '' : `, ${Math.floor(task.progress * 100)} %`
  const last =
    task.lastRun === undefined ? 'not run yet' : `${task.lastOutcome ?? 'ok'} ${span(now - task.lastRun)} ago`
  const why = task.lastOutcome === 'failed' && task.lastMessage ? `: ${task.lastMessage}` : ''
  const next = task.nextRun === undefined ? 'on request' : `next in ${span(Math.max(0, task.nextRun - now))}`
  return `task ${task.name.padEnd(12)} ${task.running ? `running${progress}` : `${last}${why}; ${next}`}\n`
}

/** A failure is news only until a later success. */
function newer(failed: BackupLine | undefined, success: BackupLine | undefined): BackupLine | undefined {
  return failed && (failed.completedAt ?? '') > (success?.completedAt ?? '') ? failed : undefined
}

/** The two largest units of a time: `3d 4h`, `12m 5s`, `0s`. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const
  const first = parts.findIndex(([count]) => count > 0)
  if (first < 0) return '0s'
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ')
}

/** Errors: invalid_parameter when something else than a database answered. */
function statusOf(body: Buffer, address: string): Status {
  let document: unknown
  try {
    document = JSON.parse(body.toString())
  } catch {
    // told below
  }
  if (typeof document === 'object' && document !== null && 'state' in document) return document as Status
  throw new KvidxError('invalid_parameter', `--ops: ${address} is not the operations port of a kvidx database`)
}

import { Command, Option } from 'commander'
import type { BackupJobResult } from '../../sidecar/job/backup-job.ts'
import { BACKUP_TYPES, type BackupType } from '../api/v1alpha1/backup.ts'
import { systemClock } from '../common/clock.ts'
import { KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import { type ClusterFlags, inCluster, withCluster } from './cluster.ts'
import { interruptible } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { stagedProgress } from './progress.ts'
import { resultError } from './result-error.ts'
import { withScratch } from './scratch.ts'
import { type StoreFlags, withOpenStore, withStore } from './store-options.ts'
import { fields } from './table.ts'

interface CreateFlags extends StoreFlags, ClusterFlags {
  readonly type: BackupType
  readonly verify: boolean
  readonly scratch?: string
}

/** `kvidx backup create [NAME]`, or `create DATABASE [NAME] --kubernetes`: a backup by hand; retention leaves it alone. */
export function backupCreateCommand(io: Io): Command {
  return withCluster(withStore(new Command('create')))
    .description('make a backup of a running database now (admin token)')
    .argument('[name]', 'name of the backup; default: <database>-manual-<time>')
    .argument('[backup]', 'create DATABASE BACKUP --kubernetes is the same as create BACKUP -k DATABASE')
    .addOption(
      new Option('--type <type>', 'kind of backup; VolumeSnapshot: with -k only').choices(BACKUP_TYPES).default('Full'),
    )
    .option('--no-verify', 'do not restore it for trial')
    .option('--scratch <dir>', 'directory for the trial; default: that for temporary files')
    .action(async (first: string | undefined, second: string | undefined, flags: CreateFlags) => {
      const { type } = flags
      const swapped = flags.kubernetes === true
      if (second !== undefined && !swapped)
        throw new KvidxError('invalid_parameter', `'${second}': one name is enough`, { field: 'backup' })
      const name = swapped ? second : first
      if (flags.kubernetes !== undefined) {
        const { createRecord } = await import('./cluster-backups.ts')
        return inCluster(swapped ? { ...flags, kubernetes: first ?? true } : flags, cluster =>
          createRecord(cluster, { name, type, verify: flags.verify }, flags.output, io),
        )
      }
      if (type === 'VolumeSnapshot')
        throw new KvidxError('invalid_parameter', 'a VolumeSnapshot is made by Kubernetes: name the database with -k', {
          field: '--type',
        })
      return withOpenStore(
        flags,
        async ({ context, client, home }) => {
          const { runBackupJob } = await import('../../sidecar/job/backup-job.ts')
          const { manualName } = await import('../../sidecar/job/names.ts')
          const { SOFTWARE } = await import('../common/software.ts')
          if (!client) throw new KvidxError('invalid_parameter', 'a backup needs --server', { field: '--server' })
          const bar = stagedProgress(io)
          const interrupt = interruptible()
          const result = await withScratch(flags.scratch, scratch =>
            runBackupJob(
              { ...context, signal: interrupt.signal, clock: systemClock, software: SOFTWARE },
              client,
              {
                name: name ?? manualName(home.database, systemClock.now()),
                retry: false,
                type,
                verify: flags.verify,
                incrementalSchedules: [],
                scratch,
              },
              bar.show,
            ),
          ).finally(() => {
            bar.end()
            interrupt.end()
          })
          await write(io.output, flags.output === 'json' ? `${JSON.stringify(result)}\n` : describeResult(result))
          if (result.phase !== 'Completed') throw resultError(result)
        },
        'always',
      )
    })
}

export function describeResult(result: BackupJobResult): string {
  return fields({
    name: result.name,
    phase: result.phase,
    type: result.type,
    'became Full': result.fallback,
    'key slices': result.slices,
    position: result.position,
    records: result.records,
    'data size': result.dataBytes === undefined ? undefined : formatBytes(result.dataBytes),
    'stored size': result.storedBytes === undefined ? undefined : formatBytes(result.storedBytes),
    digest: result.digest,
    location: result.location,
    parent: result.parent,
    completed: result.completedAt,
    verified: result.verifiedAt ?? result.verification,
    error: result.error,
  })
}

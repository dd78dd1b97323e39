import { Command, Option } from 'commander'
import type { BackupJobResult } from '../../sidecar/job/backup-job.ts'
import { systemClock } from '../common/clock.ts'
import { ERRORS, type ErrorCode, KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import { interruptible } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { stagedProgress } from './progress.ts'
import { withScratch } from './scratch.ts'
import { type StoreFlags, withOpenStore, withStore } from './store-options.ts'
import { fields } from './table.ts'

interface CreateFlags extends StoreFlags {
  readonly type: 'Full' | 'Incremental'
  readonly verify: boolean
  readonly scratch?: string
  readonly kubernetes?: true
}

/** `kvidx backup create [NAME]`, or `create DATABASE [NAME] --kubernetes`: a backup by hand; retention leaves it alone. */
export function backupCreateCommand(io: Io): Command {
  return withStore(new Command('create'))
    .description('make a backup of a running database now (admin token)')
    .argument('[name]', 'name of the backup; default: <database>-manual-<time>. With --kubernetes: KvidxDatabase')
    .argument('[backup]', 'with --kubernetes: name of the backup')
    .addOption(new Option('--type <type>', 'kind of backup').choices(['Full', 'Incremental']).default('Full'))
    .option('--no-verify', 'do not restore it for trial')
    .option('--scratch <dir>', 'directory for the trial; default: that for temporary files')
    .option('--kubernetes', 'make a KvidxBackup in the cluster of $KUBECONFIG, whose operator does the rest')
    .action(async (name: string | undefined, second: string | undefined, flags: CreateFlags) => {
      if (flags.kubernetes) {
        const { createInCluster } = await import('./backup-cluster.ts')
        if (name === undefined)
          throw new KvidxError('invalid_parameter', 'with --kubernetes the name of a KvidxDatabase is needed', {
            field: 'name',
          })
        return createInCluster(io, name, second, flags)
      }
      if (second !== undefined)
        throw new KvidxError('invalid_parameter', `'${second}': a second name is for --kubernetes`, { field: 'backup' })
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
                type: flags.type,
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
        true,
      )
    })
}

/** The error of a result that is no success, so that the exit code says so. */
export function resultError({ name, error, code }: { name?: string; error?: string; code?: string }): KvidxError {
  const known = code !== undefined && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'internal'
  return new KvidxError(known, `${name === undefined ? '' : `${name}: `}${error ?? 'it failed'}`)
}

export function describeResult(result: BackupJobResult): string {
  return fields({
    name: result.name,
    phase: result.phase,
    type: result.type,
    'became Full': result.fallback,
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

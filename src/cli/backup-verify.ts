import { Command } from 'commander'
import { systemClock } from '../common/clock.ts'
import { KvidxError } from '../common/errors.ts'
import { pickBackup } from './backup-list.ts'
import { type ClusterFlags, inCluster, refuseInCluster, withCluster } from './cluster.ts'
import { interruptible } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { stagedProgress } from './progress.ts'
import { withScratch } from './scratch.ts'
import { type StoreFlags, withOpenStore, withStore } from './store-options.ts'

interface VerifyFlags extends StoreFlags, ClusterFlags {
  readonly all?: true
  readonly scratch?: string
}

/** `kvidx backup verify [NAME|--all]`: reads back, restores for trial, compares; exit code 0 only when all of them are sound. */
export function backupVerifyCommand(io: Io): Command {
  return withCluster(withStore(new Command('verify')))
    .description('restore a backup for trial and compare it; default: the newest')
    .argument('[name]', 'name or directory of the backup')
    .option('--all', 'every backup of the lineage')
    .option('--scratch <dir>', 'directory for the trial; default: that for temporary files')
    .action(async (name: string | undefined, flags: VerifyFlags, command: Command) => {
      if (flags.kubernetes !== undefined) {
        refuseInCluster(command, ['lineage', 'store'], 'a pod reads the store that spec.backup names')
        const { taskInCluster } = await import('./cluster-backups.ts')
        const what = name !== undefined ? ['--name', name] : flags.all ? ['--all'] : ['--newest']
        return inCluster(flags, cluster => taskInCluster(cluster, 'check', what, flags.output, io))
      }
      return withOpenStore(flags, async ({ context, home, client }) => {
        const { readLineage } = await import('../../sidecar/backup/catalog.ts')
        const { runVerifyJob } = await import('../../sidecar/job/verify-job.ts')
        const { SOFTWARE } = await import('../common/software.ts')
        const catalog = await readLineage(context.store, home)
        if (flags.all && name !== undefined)
          throw new KvidxError('invalid_parameter', 'NAME and --all are both given (allowed: one of them)')
        const newest = catalog.backups.at(-1)
        if (catalog.backups.length === 0 && catalog.damaged.length === 0)
          throw new KvidxError('backup_not_found', `${context.store.location} has no backup of lineage ${home.lineage}`)
        const chosen = flags.all
          ? catalog.backups
          : name !== undefined
            ? [pickBackup(catalog, name)]
            : newest
              ? [newest]
              : []
        const bad: string[] = []
        const interrupt = interruptible()
        const bar = stagedProgress(io)
        try {
          await withScratch(flags.scratch, async scratch => {
            const job = { ...context, signal: interrupt.signal, clock: systemClock, software: SOFTWARE }
            for await (const result of runVerifyJob(job, client, home, chosen, { scratch }, bar.show)) {
              bar.end()
              if (result.result === 'Failed' || result.result === 'Error') bad.push(result.name)
              const text = `${result.result.padEnd(10)}  ${result.name}  ${result.position}  ${result.records ?? '?'} records  ${result.seconds} s${result.error === undefined ? '' : `  ${result.error}`}\n`
              await write(io.output, flags.output === 'json' ? `${JSON.stringify(result)}\n` : text)
            }
          })
        } finally {
          bar.end()
          interrupt.end()
        }
        // a manifest that cannot be read is a backup that is not sound
        if (flags.all || name === undefined)
          for (const { key, error } of catalog.damaged) {
            bad.push(key)
            const line = { directory: key, result: 'Failed', error: error.message, code: error.code }
            await write(
              io.output,
              flags.output === 'json' ? `${JSON.stringify(line)}\n` : `Failed      ${key}  ${error.message}\n`,
            )
          }
        if (bad.length > 0) throw new KvidxError('backup_corrupt', `not sound: ${bad.join(', ')}`)
      })
    })
}

import { Command } from 'commander'
import type { RetentionPolicy } from '../../sidecar/backup/retention.ts'
import { systemClock } from '../common/clock.ts'
import { milliseconds } from '../common/duration.ts'
import { KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import { type ClusterFlags, inCluster, refuseInCluster, withCluster } from './cluster.ts'
import { type Io, write } from './io.ts'
import { newestLineage, type StoreFlags, withOpenStore, withStore } from './store-options.ts'

interface PruneFlags extends StoreFlags, ClusterFlags {
  readonly dryRun?: true
  readonly daily: string
  readonly weekly: string
  readonly monthly: string
  readonly last: string
  readonly window: string
  readonly timeZone: string
}

/** `kvidx backup prune`: removes what retention lets go. */
export function backupPruneCommand(io: Io): Command {
  return withCluster(withStore(new Command('prune')))
    .description('remove the backups that retention does not keep; those made by hand stay')
    .option('--dry-run', 'only say what would go, and why the rest stays')
    .option('--daily <n>', 'latest days that keep their last Full', '7')
    .option('--weekly <n>', 'latest ISO weeks that keep their last Full', '4')
    .option('--monthly <n>', 'latest months that keep their first Full', '12')
    .option('--last <n>', 'newest Fulls that stay', '3')
    .option('--window <duration>', 'every moment of this time stays restorable', '7d')
    .option('--time-zone <name>', 'whose midnight ends a day', 'Etc/UTC')
    .action(async (flags: PruneFlags, command: Command) => {
      if (flags.kubernetes !== undefined) {
        refuseInCluster(
          command,
          ['lineage', 'store', 'daily', 'weekly', 'monthly', 'last', 'window', 'timeZone'],
          'the lineage of the database is pruned, by spec.backup.retention (an older lineage: docs/backup.md, "Older lineages")',
        )
        const { taskInCluster } = await import('./cluster-backups.ts')
        const what = flags.dryRun ? ['--dry-run'] : []
        return inCluster(flags, cluster => taskInCluster(cluster, 'prune', what, flags.output, io))
      }
      return withOpenStore(flags, async ({ context, home, source }) => {
        const { readLineage } = await import('../../sidecar/backup/catalog.ts')
        const { planPrune, prune } = await import('../../sidecar/backup/prune.ts')
        const own = source?.namespace === home.namespace && source.database === home.database
        const ended =
          flags.lineage !== undefined &&
          home.lineage !== (own ? source.lineage : await newestLineage(context, home.namespace, home.database))
        const policy = { ...policyOf(flags), ended }
        const plan = planPrune(await readLineage(context.store, home), policy, systemClock.now())
        const gone = plan.backups.filter(decision => !decision.keep)
        const segments = plan.segments.filter(decision => !decision.keep).length
        if (flags.output === 'json') {
          const result = flags.dryRun ? undefined : await prune(context.store, plan)
          const document = {
            dryRun: flags.dryRun === true,
            backups: plan.backups,
            segments,
            unfinished: plan.unfinished.map(item => item.path),
            ...(result && { result }),
          }
          return write(io.output, `${JSON.stringify(document)}\n`)
        }
        for (const { id, keep, reasons } of plan.backups)
          await write(io.output, `${keep ? 'keep  ' : 'remove'}  ${id}  ${reasons.join('; ')}\n`)
        await write(io.output, `${segments} of ${plan.segments.length} segments go\n`)
        if (flags.dryRun) return
        const result = await prune(context.store, plan)
        await write(
          io.output,
          `removed ${result.backups} of ${gone.length} backups, ${result.segments} segments, ${result.unfinished} unfinished, ${formatBytes(result.bytes)}\n`,
        )
        if (result.denied > 0)
          throw new KvidxError('store_denied', `${result.denied} objects could not be deleted with these credentials`)
      })
    })
}

function policyOf(flags: PruneFlags): RetentionPolicy {
  const count = (name: 'daily' | 'weekly' | 'monthly' | 'last') => {
    const text = flags[name]
    if (!/^\d{1,4}$/.test(text))
      throw new KvidxError('invalid_parameter', `--${name}: '${text}' (allowed: 0 to 9999)`, { field: `--${name}` })
    return Number(text)
  }
  return {
    daily: count('daily'),
    weekly: count('weekly'),
    monthly: count('monthly'),
    last: count('last'),
    windowMs: milliseconds(flags.window, '--window'),
    timeZone: flags.timeZone,
  }
}

import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import { systemClock } from '../common/clock.ts'
import { formatBytes } from '../common/quantity.ts'
import { type ClusterFlags, inCluster, refuseInCluster, withCluster } from './cluster.ts'
import { interruptible } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { stagedProgress } from './progress.ts'
import { parseTarget } from './restore-target.ts'
import { resultError } from './result-error.ts'
import { withScratch } from './scratch.ts'
import { type StoreFlags, withOpenStore, withStore } from './store-options.ts'
import { fields } from './table.ts'

interface RestoreFlags extends StoreFlags {
  readonly at?: string
  readonly dataDir: string
  readonly engine?: EngineKind
  readonly name?: string
  readonly keepLineage?: true
}

const engineOption = (what: string) => new Option('--engine <engine>', what).choices(['SQLite', 'LMDB', 'RocksDB'])

/** `kvidx backup restore`: into a new directory, with no running process. */
export function backupRestoreCommand(io: Io): Command {
  return withStore(new Command('restore'))
    .description('restore from a store into a new data directory, of any engine')
    .requiredOption('--data-dir <dir>', 'the new volume; must be empty or absent')
    .option('--at <target>', 'time (RFC 3339), position (EPOCH.SEQ) or name of a backup; default: the latest change')
    .addOption(engineOption('engine of the new database; default: that of the backup'))
    .option('--name <name>', 'name of the new database; default: as it was')
    .option('--keep-lineage', 'the volume was lost and this is the same database: its lineage goes on in a new epoch')
    .action((flags: RestoreFlags) =>
      withOpenStore(
        flags,
        async ({ settings, context, home }) => {
          const { restoreOffline } = await import('../../sidecar/restore/offline.ts')
          const engine = flags.engine ?? (await engineOf(context, home))
          const bar = stagedProgress(io)
          const interrupt = interruptible()
          const began = performance.now()
          try {
            const restored = await restoreOffline(
              {
                store: settings,
                source: home,
                from: parseTarget(flags.at),
                dataDirectory: resolve(flags.dataDir),
                engine,
                ...(flags.name !== undefined && { name: flags.name }),
                keepLineage: flags.keepLineage === true,
              },
              systemClock,
              interrupt.signal,
              ({ stage, records }) => bar.show(stage, records),
            )
            bar.end()
            const { identity, sources, ...rest } = restored
            const seconds = Math.round(performance.now() - began) / 1000
            const document = {
              ...rest,
              sources: sources.length,
              engine,
              lineage: identity.lineage,
              from: home,
              dataDirectory: resolve(flags.dataDir),
              seconds,
            }
            await write(
              io.output,
              flags.output === 'json'
                ? `${JSON.stringify(document)}\n`
                : fields({
                    'restored to': resolve(flags.dataDir),
                    engine,
                    'source position': rest.reached,
                    'last commit':
                      rest.reachedTime === '0' ? 'none yet' : new Date(Number(rest.reachedTime)).toISOString(),
                    position: rest.position,
                    lineage: identity.lineage,
                    records: rest.count,
                    'data size': formatBytes(Number(rest.dataBytes)),
                    digest: rest.digest,
                    files: sources.length,
                    'damaged, not needed': rest.damaged?.join('; '),
                    seconds,
                    note: rest.complete ? undefined : 'the store has no change behind this; later ones are not in it',
                  }),
            )
          } finally {
            bar.end()
            interrupt.end()
          }
        },
        'flag',
      ),
    )
}

async function engineOf(
  context: Parameters<Parameters<typeof withOpenStore>[1]>[0]['context'],
  home: Parameters<Parameters<typeof withOpenStore>[1]>[0]['home'],
): Promise<EngineKind> {
  const { readLineage } = await import('../../sidecar/backup/catalog.ts')
  const catalog = await readLineage(context.store, home)
  return catalog.backups.at(-1)?.manifest.engine ?? 'SQLite'
}

interface DrillFlags extends StoreFlags, ClusterFlags {
  readonly at?: string
  readonly scratch?: string
  readonly engine?: EngineKind
}

/** `kvidx backup drill`: restores a random moment of the window, as an exercise. */
export function backupDrillCommand(io: Io): Command {
  return withCluster(withStore(new Command('drill')))
    .description('restore a random moment of the recovery window into scratch space, compare, and say how long it took')
    .option('--at <time>', 'this moment (RFC 3339) instead of a random one')
    .option('--scratch <dir>', 'where; default: the directory for temporary files')
    .addOption(engineOption('engine; default: that of the newest backup'))
    .action(async (flags: DrillFlags, command: Command) => {
      if (flags.kubernetes !== undefined) {
        refuseInCluster(
          command,
          ['at', 'engine', 'lineage', 'store'],
          'the pod restores a random moment of the store that spec.backup names',
        )
        const { taskInCluster } = await import('./cluster-backups.ts')
        return inCluster(flags, cluster => taskInCluster(cluster, 'drill', [], flags.output, io))
      }
      return withOpenStore(flags, async ({ settings, context, home, client }) => {
        const { runDrill } = await import('../../sidecar/job/drill-job.ts')
        const target = flags.at === undefined ? undefined : parseTarget(flags.at)
        const time = target?.kind === 'time' ? target.time : undefined
        const engine = flags.engine ?? (await engineOf(context, home))
        const bar = stagedProgress(io)
        const interrupt = interruptible()
        const result = await withScratch(flags.scratch, scratch =>
          runDrill(settings, home, {
            clock: systemClock,
            scratch,
            engine,
            signal: interrupt.signal,
            ...(client && { client }),
            ...(time !== undefined && { time }),
            progress: bar.show,
          }),
        ).finally(() => {
          bar.end()
          interrupt.end()
        })
        // a drill that was broken off says nothing of the backups
        if (!interrupt.signal.aborted) await client?.report(result).catch(() => undefined)
        await write(
          io.output,
          flags.output === 'json' ? `${JSON.stringify(result)}\n` : fields({ ...result, kind: undefined }),
        )
        if (result.phase !== 'Completed') throw resultError(result)
      })
    })
}

import { Command } from 'commander'
import { systemClock } from '../common/clock.ts'
import { type ClusterFlags, inCluster, withCluster } from './cluster.ts'
import { type Io, write } from './io.ts'
import { type StoreFlags, withOpenStore, withStore } from './store-options.ts'

interface SyncFlags extends StoreFlags, ClusterFlags {
  readonly into?: string
}

/** `kvidx backup sync`: the catalogue of a store as KvidxBackups of a cluster. */
export function backupSyncCommand(io: Io): Command {
  return withCluster(withStore(new Command('sync')))
    .description('make a KvidxBackup for each backup that the store has and the cluster does not know; removes nothing')
    .option('--into <namespace>', 'namespace of the KvidxBackups; default: that of the database in the store')
    .argument('[database]', 'the same as -k')
    .action(async (name: string | undefined, flags: SyncFlags) => {
      const kubernetes = name ?? flags.kubernetes
      if (kubernetes !== undefined) {
        const { taskInCluster } = await import('./cluster-backups.ts')
        return inCluster({ ...flags, kubernetes }, cluster => taskInCluster(cluster, 'catalog', [], flags.output, io))
      }
      return withOpenStore(flags, async ({ context, home }) => {
        const { readCatalog } = await import('../../sidecar/backup/catalog.ts')
        const { catalogEntries } = await import('../../sidecar/job/catalog-job.ts')
        const { importRecords } = await import('../controllers/backup/imported.ts')
        const { Connection } = await import('../kube/connection.ts')
        const { KubeClient } = await import('../kube/client.ts')
        const { namespace, database } = home
        const { store } = context
        const all = await readCatalog(store, { namespace, database })
        const catalogs = flags.lineage === undefined ? all : all.filter(({ lineage }) => lineage === flags.lineage)
        const entries = catalogEntries(catalogs, store.location)
        const connection = await Connection.load(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig })
        const api = new KubeClient({ connection })
        try {
          const where = { namespace: flags.into ?? namespace, database }
          const result = await importRecords(api, where, entries, systemClock)
          if (flags.output === 'json') return await write(io.output, `${JSON.stringify({ ...where, ...result })}\n`)
          for (const name of result.imported) await write(io.output, `${name} imported\n`)
          await write(
            io.output,
            `${entries.length} backups of ${namespace}/${database} in the store: ${result.imported.length} imported into namespace ${where.namespace}, ${result.known.length} known there already\n`,
          )
          for (const { name, why } of result.refused) await write(io.notes, `not imported: ${name}: ${why}\n`)
        } finally {
          await api.close()
        }
      })
    })
}

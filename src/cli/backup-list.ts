import { Command } from 'commander'
import type { Backup, LineageCatalog } from '../../sidecar/backup/catalog.ts'
import { KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import { type ClusterFlags, inCluster, refuseInCluster, withCluster } from './cluster.ts'
import { type Io, write } from './io.ts'
import { type StoreFlags, withOpenStore, withStore } from './store-options.ts'
import { fields, table } from './table.ts'

/** `kvidx backup list` */
export function backupListCommand(io: Io): Command {
  return withCluster(withStore(new Command('list')))
    .description('list the backups of a store, oldest first')
    .action(async (flags: StoreFlags & ClusterFlags, command: Command) => {
      if (flags.kubernetes !== undefined) {
        refuseInCluster(command, ['lineage', 'store'], 'the KvidxBackups of the database are listed')
        const { listRecords } = await import('./cluster-backups.ts')
        return inCluster(flags, cluster => listRecords(cluster, flags.output, io))
      }
      return withOpenStore(flags, async ({ context, home }) => {
        const { readLineage, since } = await import('../../sidecar/backup/catalog.ts')
        const { recoveryWindow } = await import('../../sidecar/backup/chain.ts')
        const catalog = await readLineage(context.store, home)
        const window = recoveryWindow(catalog)
        if (flags.output === 'json') {
          const { from, reached } = window ?? {}
          const document = {
            ...home,
            store: context.store.location,
            backups: catalog.backups.map(documentOf),
            segments: catalog.segments.length,
            damaged: catalog.damaged.map(({ key, error }) => ({ key, code: error.code, error: error.message })),
            unfinished: catalog.unfinished.map(({ path, bytes }) => ({ path, bytes })),
            ...(from && {
              recoveryWindow: {
                from: new Date(Number(since(from))).toISOString(),
                fromPosition: from.manifest.position,
                toSeq: String(reached),
              },
            }),
          }
          return write(io.output, `${JSON.stringify(document)}\n`)
        }
        await write(io.output, tableOf(catalog))
        if (catalog.segments.length > 0 && window)
          await write(
            io.notes,
            `${catalog.segments.length} segments; every moment from ${new Date(Number(since(window.from))).toISOString()} to seq ${window.reached} can be restored\n`,
          )
        for (const { key, error } of catalog.damaged) await write(io.notes, `damaged: ${key}: ${error.message}\n`)
        for (const { path } of catalog.unfinished) await write(io.notes, `not finished: ${path}\n`)
      })
    })
}

/** `kvidx backup show NAME` */
export function backupShowCommand(io: Io): Command {
  return withCluster(withStore(new Command('show')))
    .description('show everything about a backup')
    .argument('<name>', 'name or directory of the backup')
    .action(async (name: string, flags: StoreFlags & ClusterFlags) => {
      if (flags.kubernetes !== undefined) {
        const { showRecord } = await import('./cluster-backups.ts')
        return inCluster(flags, cluster => showRecord(cluster, name, flags.output, io))
      }
      return withOpenStore(flags, async ({ context, home }) => {
        const { readLineage } = await import('../../sidecar/backup/catalog.ts')
        const backup = pickBackup(await readLineage(context.store, home), name)
        const { manifest, verification } = backup
        if (flags.output === 'json') {
          const document = { ...documentOf(backup), path: backup.path, manifest, verification }
          return write(io.output, `${JSON.stringify(document)}\n`)
        }
        await write(
          io.output,
          fields({
            name: backup.name,
            kind: backup.kind,
            schedule: manifest.schedule ?? 'by hand',
            lineage: manifest.lineage,
            location: `${context.store.location}/${backup.path}`,
            position: manifest.position,
            'last commit': commitTime(backup) ?? 'none yet',
            records: manifest.count,
            'data size': formatBytes(Number(manifest.dataBytes)),
            'stored size': formatBytes(backup.storedBytes),
            digest: manifest.digest,
            keys: manifest.minKey === undefined ? undefined : `${manifest.minKey} to ${manifest.maxKey}`,
            parent: backup.parent?.directory,
            engine: manifest.engineVersion,
            encryption: manifest.encryption && `${manifest.encryption.algorithm}, key ${manifest.encryption.keyId}`,
            started: manifest.startedAt,
            completed: manifest.completedAt,
            verification: verification ? `${verification.result} ${verification.completedAt}` : 'none',
            software: manifest.software,
          }),
        )
        for (const check of verification?.checks ?? [])
          await write(
            io.output,
            `  ${check.ok ? 'ok  ' : 'FAIL'} ${check.name}${check.found === undefined ? '' : ` ${check.found}`}\n`,
          )
      })
    })
}

/** By name or directory. Errors: backup_not_found naming the newest. */
export function pickBackup(catalog: LineageCatalog, name: string): Backup {
  const found = catalog.backups.findLast(backup => backup.directory === name || backup.name === name)
  if (found) return found
  const damaged = catalog.damaged.find(item => item.key.includes(name))
  if (damaged) throw damaged.error
  throw notFound(catalog, name)
}

function notFound(catalog: LineageCatalog, name: string): KvidxError {
  const known = catalog.backups.slice(-5).map(backup => backup.name)
  return new KvidxError(
    'backup_not_found',
    `there is no backup '${name}' of lineage ${catalog.lineage}; the newest are: ${known.join(', ') || 'none at all'}`,
    { name },
  )
}

/** RFC 3339; undefined: the database had no commit yet. */
const commitTime = (backup: Backup): string | undefined =>
  backup.commitTime === 0n ? undefined : new Date(Number(backup.commitTime)).toISOString()

function documentOf(backup: Backup) {
  const { manifest, verification } = backup
  return {
    name: backup.name,
    directory: backup.directory,
    type: backup.kind,
    ...(manifest.schedule !== undefined && { schedule: manifest.schedule }),
    position: manifest.position,
    time: commitTime(backup),
    records: manifest.count,
    dataBytes: manifest.dataBytes,
    storedBytes: backup.storedBytes,
    digest: manifest.digest,
    ...(backup.parent && { parent: backup.parent.directory }),
    startedAt: manifest.startedAt,
    completedAt: manifest.completedAt,
    verification: verification?.result ?? (manifest.verify ? 'Pending' : 'Skipped'),
    ...(verification?.result === 'Verified' && { verifiedAt: verification.completedAt }),
    good: backup.good,
  }
}

function tableOf(catalog: LineageCatalog): string {
  const lines = catalog.backups.map(backup => [
    backup.name,
    backup.kind,
    backup.manifest.position,
    backup.manifest.count,
    formatBytes(backup.storedBytes),
    backup.verification?.result ?? (backup.manifest.verify ? 'pending' : 'not asked'),
    backup.manifest.completedAt,
  ])
  return table(['NAME', 'TYPE', 'POSITION', 'RECORDS', 'STORED', 'VERIFIED', 'COMPLETED'], lines)
}

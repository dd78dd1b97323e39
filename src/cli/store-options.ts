import { type Command, Option } from 'commander'
import type { LineageCatalog } from '../../sidecar/backup/catalog.ts'
import type { Home } from '../../sidecar/backup/layout.ts'
import type { StoreSettings } from '../../sidecar/backup/store/settings.ts'
import type { FileContext } from '../../sidecar/backup/stored-file.ts'
import type { DatabaseClient, SourceInfo } from '../../sidecar/job/database-client.ts'
import { systemClock } from '../common/clock.ts'
import { environment } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { stepBack } from '../common/priority.ts'
import { bytes } from '../common/quantity.ts'
import { type ConnectionFlags, connected, withConnection } from './connection-options.ts'

export interface StoreFlags extends ConnectionFlags {
  readonly store?: string
  readonly keyFile?: string[]
  readonly namespace?: string
  readonly database?: string
  readonly lineage?: string
  readonly level?: string
  readonly bandwidth?: string
}

/** What every command that works on a backup store understands. */
export function withStore(command: Command): Command {
  return withConnection(command)
    .option(
      '--store <url>',
      'file:///directory or s3://bucket/prefix?endpoint=https://host: nothing else is asked, but a --server; default $KVIDX_STORE, else the store that the server names',
    )
    .option('--key-file <file...>', 'encryption keys; the first one encrypts')
    .option('--namespace <name>', 'namespace of the database in the store')
    .option('--database <name>', 'name of the database in the store; default: the only one that is there')
    .option('--lineage <id>', 'lineage, when the store has several; default: that of the server, else the newest')
    .addOption(new Option('--level <1-19>', 'zstd level of what is written').hideHelp())
    .addOption(new Option('--bandwidth <bytes>', 'most bytes a second, as in 10Mi').hideHelp())
}

/** A store, and the database beside it if one was asked. */
export interface OpenedStore {
  readonly settings: StoreSettings
  readonly context: FileContext
  readonly home: Home
  readonly client: DatabaseClient | undefined
  readonly source: SourceInfo | undefined
}

/**
 * Opens what the flags name, and closes it. A server is asked when no store is named; beside `--store` only one that a flag names: the variable's may be what
 * was lost, or another one's. Errors: invalid_parameter, backup_not_found (the store has no such database), and what the work throws.
 * @param asks `always`: the work needs a server; `named`: beside $KVIDX_STORE that of $KVIDX_SERVER, too; `flag`: not even that
 */
export async function withOpenStore<T>(
  flags: StoreFlags,
  work: (opened: OpenedStore) => Promise<T>,
  asks: 'always' | 'named' | 'flag' = 'named',
): Promise<T> {
  const url = flags.store ?? environment.read('KVIDX_STORE')
  const named =
    flags.server ?? (asks === 'flag' || flags.store !== undefined ? undefined : environment.read('KVIDX_SERVER'))
  if (url !== undefined && named === undefined && asks !== 'always') return open(flags, url, undefined, undefined, work)
  return connected(flags, async caller => {
    const { DatabaseClient } = await import('../../sidecar/job/database-client.ts')
    const client = new DatabaseClient(caller as ConstructorParameters<typeof DatabaseClient>[0])
    const source = await client.source()
    const store = url ?? source.store
    if (store === undefined)
      throw new KvidxError('invalid_parameter', 'the server has no backup destination; name a store with --store', {
        field: '--store',
      })
    return open(flags, store, client, source, work)
  })
}

async function open<T>(
  flags: StoreFlags,
  url: string,
  client: DatabaseClient | undefined,
  source: SourceInfo | undefined,
  work: (opened: OpenedStore) => Promise<T>,
): Promise<T> {
  // a database serves beside this
  if (client) stepBack()
  const { openStore } = await import('../../sidecar/backup/store/settings.ts')
  const ownKeys = flags.keyFile === undefined && flags.store === undefined && source?.encryption
  const settings: StoreSettings = {
    url,
    ...(flags.keyFile && { keyFiles: flags.keyFile }),
    ...(ownKeys && { encryption: ownKeys }),
    ...(flags.level !== undefined && { compressionLevel: levelFlag(flags.level) }),
    ...(flags.bandwidth !== undefined && { bandwidthLimit: bytes(flags.bandwidth, '--bandwidth', { min: '1' }) }),
  }
  const context = await openStore(settings, systemClock)
  try {
    const home = await homeOf(flags, context, source)
    return await work({ settings, context, home, client, source })
  } finally {
    await context.store.close()
  }
}

function levelFlag(text: string): number {
  const level = Number(text)
  if (!(Number.isInteger(level) && level >= 1 && level <= 19))
    throw new KvidxError('invalid_parameter', `--level: '${text}' (allowed: 1 to 19)`, { field: '--level' })
  return level
}

async function homeOf(flags: StoreFlags, context: FileContext, source: SourceInfo | undefined): Promise<Home> {
  const { listFolders } = await import('../../sidecar/backup/store/store.ts')
  const { store } = context
  const own = source && flags.database === undefined && flags.namespace === undefined
  if (own) return { namespace: source.namespace, database: source.database, lineage: flags.lineage ?? source.lineage }
  const below = async (prefix: string) =>
    (await listFolders(store, prefix))
      .map(folder => folder.slice(prefix.length, -1))
      .filter(name => !name.startsWith('.'))
  const namespace = flags.namespace ?? (await only(below(''), 'namespace', store.location))
  const database = flags.database ?? (await only(below(`${namespace}/`), 'database', store.location))
  const lineage = flags.lineage ?? (await newestLineage(context, namespace, database))
  return { namespace, database, lineage }
}

async function only(names: Promise<string[]>, what: string, location: string): Promise<string> {
  const found = await names
  if (found.length === 1) return found[0] as string
  if (found.length === 0) throw new KvidxError('backup_not_found', `${location} holds no backups`)
  throw new KvidxError(
    'invalid_parameter',
    `${location} holds several: choose one with --${what} (there are: ${found.slice(0, 20).join(', ')})`,
    { field: `--${what}` },
  )
}

/** Errors: backup_not_found. */
export async function newestLineage(context: FileContext, namespace: string, database: string): Promise<string> {
  const { readCatalog } = await import('../../sidecar/backup/catalog.ts')
  const catalogs = await readCatalog(context.store, { namespace, database })
  const time = (catalog: LineageCatalog) => catalog.backups.at(-1)?.time ?? 0
  const [newest] = catalogs.sort((a, b) => time(b) - time(a))
  if (newest) return newest.lineage
  throw new KvidxError('backup_not_found', `${context.store.location} has nothing of ${namespace}/${database}`)
}

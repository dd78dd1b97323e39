import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DynamicConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../../../src/common/clock.ts'
import { type Environment, environment } from '../../../src/common/environment.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { KeyRing, type MasterKey, NO_KEYS, parseMasterKey } from '../key-ring.ts'
import type { FileContext } from '../stored-file.ts'
import { openDestination, openStoreUrl } from './open.ts'
import type { S3Credentials } from './s3-client.ts'
import { Bandwidth } from './throttle.ts'

type BackupConfig = NonNullable<DynamicConfig['backup']>
type S3Config = NonNullable<BackupConfig['destination']['s3']>

/** How a store is reached: plain data without secrets, so that it can be given to a thread or shown to an admin. */
export interface StoreSettings {
  /** Exactly one of url, volume and s3. */
  readonly url?: string
  readonly volume?: { readonly directory: string }
  readonly s3?: S3Config
  /** Directory with one file a key; `keyId` is the name of the one that encrypts. */
  readonly encryption?: { readonly directory: string; readonly keyId: string }
  /** Key files, the first one encrypts; in the place of `encryption`. */
  readonly keyFiles?: readonly string[]
  /** zstd, 1 … 19 */
  readonly compressionLevel?: number
  /** bytes a second */
  readonly bandwidthLimit?: number
}

/** The store of `spec.backup`. */
export function configuredStore(backup: BackupConfig): StoreSettings {
  const { destination, encryption, compressionLevel, bandwidthLimit } = backup
  return {
    ...(destination.volume && { volume: destination.volume }),
    ...(destination.s3 && { s3: destination.s3 }),
    ...(encryption && { encryption }),
    compressionLevel,
    ...(bandwidthLimit !== undefined && { bandwidthLimit }),
  }
}

/** Opens it; close the store afterwards. Errors: invalid_parameter (a key, certificate or URL that cannot be used), store_denied (no credentials). */
export async function openStore(settings: StoreSettings, clock: Clock): Promise<FileContext> {
  const { url, volume, s3, compressionLevel, bandwidthLimit } = settings
  const keys = await keyRing(settings)
  const rest = {
    keys,
    ...(compressionLevel !== undefined && { level: compressionLevel }),
    ...(bandwidthLimit !== undefined && { bandwidth: new Bandwidth(bandwidthLimit, clock) }),
  }
  if (url !== undefined) {
    const credentials = () => environmentCredentials(environment)
    return { store: await openStoreUrl(url, { clock, credentials }), ...rest }
  }
  if (volume) return { store: openDestination({ volume: {} }, { clock, volumePath: volume.directory }), ...rest }
  if (!s3) throw new KvidxError('invalid_parameter', 'no backup store is named', { field: 'backup.destination' })
  const ca = s3.caFile === undefined ? undefined : await readText(s3.caFile, 'caFile')
  const credentials = () => mountedCredentials(s3.credentialsDirectory)
  return {
    store: openDestination({ s3: place(s3) }, { clock, credentials, ...(ca !== undefined && { ca }) }),
    ...rest,
  }
}

/** For people: where backups go. Never has credentials. */
export function storeUrl(settings: StoreSettings): string {
  const { url, volume, s3 } = settings
  if (url !== undefined) return url
  if (volume) return `file://${volume.directory}`
  if (!s3) return ''
  const query = new URLSearchParams()
  for (const name of ['endpoint', 'region', 'caFile'] as const) {
    const value = s3[name]
    if (value !== undefined) query.set(name, value)
  }
  if (s3.pathStyle !== undefined) query.set('pathStyle', String(s3.pathStyle))
  const search = query.size > 0 ? `?${query}` : ''
  return `s3://${s3.bucket}${s3.prefix === undefined ? '' : `/${s3.prefix.replace(/^\//, '')}`}${search}`
}

function place({ bucket, prefix, endpoint, region, pathStyle }: S3Config) {
  return {
    bucket,
    region,
    ...(prefix !== undefined && { prefix }),
    ...(endpoint !== undefined && { endpoint }),
    ...(pathStyle !== undefined && { pathStyle }),
  }
}

/** A mounted Secret is looked at again for each request, so a rotated key is taken up. Without one, the variables count. */
async function mountedCredentials(directory: string | undefined): Promise<S3Credentials> {
  if (directory === undefined) return environmentCredentials(environment)
  const read = async (name: string) => {
    try {
      return (await readFile(join(directory, name), 'utf8')).trim()
    } catch {
      return undefined
    }
  }
  const [accessKeyId, secretAccessKey, sessionToken] = await Promise.all(
    ['accessKeyId', 'secretAccessKey', 'sessionToken'].map(read),
  )
  if (!accessKeyId || !secretAccessKey)
    throw new KvidxError(
      'store_denied',
      `${directory} does not hold the files accessKeyId and secretAccessKey of the backup store`,
      { field: 'credentialsSecretRef' },
    )
  return { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) }
}

/** S3 credentials of the variables. Errors: store_denied. */
export function environmentCredentials(from: Environment): S3Credentials {
  const accessKeyId = from.read('KVIDX_S3_ACCESS_KEY_ID') ?? from.read('AWS_ACCESS_KEY_ID')
  const secretAccessKey = from.read('KVIDX_S3_SECRET_ACCESS_KEY') ?? from.read('AWS_SECRET_ACCESS_KEY')
  const sessionToken = from.read('KVIDX_S3_SESSION_TOKEN') ?? from.read('AWS_SESSION_TOKEN')
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw new KvidxError(
      'store_denied',
      'there are no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or KVIDX_S3_ACCESS_KEY_ID and KVIDX_S3_SECRET_ACCESS_KEY',
    )
  return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) }
}

async function keyRing({ encryption, keyFiles }: StoreSettings): Promise<KeyRing> {
  if (keyFiles && keyFiles.length > 0) return new KeyRing(await Promise.all(keyFiles.map(readKey)))
  if (!encryption) return NO_KEYS
  const { directory, keyId } = encryption
  // a mounted Secret has ..data and the like beside its entries
  const names = (await readdir(directory).catch(() => [])).filter(name => !name.startsWith('.'))
  if (!names.includes(keyId))
    throw new KvidxError(
      'invalid_parameter',
      `security.encryption.keyId: '${keyId}' is not in ${directory} (there are: ${names.join(', ') || 'none'})`,
      { field: 'security.encryption.keyId' },
    )
  const ordered = [keyId, ...names.filter(name => name !== keyId)]
  return new KeyRing(await Promise.all(ordered.map(name => readKey(join(directory, name)))))
}

async function readKey(path: string): Promise<MasterKey> {
  let content: Buffer
  try {
    content = await readFile(path)
  } catch (thrown) {
    throw new KvidxError(
      'invalid_parameter',
      `the encryption key ${path} cannot be read: ${(thrown as Error).message}`,
      { field: 'key' },
      thrown,
    )
  }
  try {
    return parseMasterKey(content)
  } catch (thrown) {
    throw new KvidxError('invalid_parameter', `${path}: ${(thrown as Error).message}`, { field: 'key' }, thrown)
  }
}

async function readText(path: string, field: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (thrown) {
    throw new KvidxError('invalid_parameter', `${field}: ${(thrown as Error).message}`, { field }, thrown)
  }
}

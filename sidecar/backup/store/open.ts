import { readFile } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../../../src/common/clock.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { DirectoryStore } from './directory.ts'
import { S3Store } from './s3.ts'
import type { S3Credentials } from './s3-client.ts'
import type { BackupStore } from './store.ts'

/** What `spec.backup.destination` says, as far as a store needs it. */
export type StoreDestination =
  | {
      readonly s3: {
        readonly bucket: string
        readonly prefix?: string
        readonly endpoint?: string
        readonly region?: string
        readonly pathStyle?: boolean
      }
    }
  | { readonly volume: object }

export interface OpenStoreOptions {
  readonly clock: Clock
  /** Where a volume destination is mounted, an absolute path. */
  readonly volumePath?: string
  /** Asked before every S3 request. */
  readonly credentials?: () => S3Credentials | Promise<S3Credentials>
  /** PEM of the authorities for S3 endpoints, instead of the system's. */
  readonly ca?: string
}

const S3_PARAMETERS = ['endpoint', 'region', 'pathStyle', 'caFile']
const DEFAULT_REGION = 'us-east-1'

/** Opens the store that a spec names. Errors: invalid_parameter naming the field. */
export function openDestination(destination: StoreDestination, options: OpenStoreOptions): BackupStore {
  if ('volume' in destination) {
    if (options.volumePath === undefined || !isAbsolute(options.volumePath))
      throw new KvidxError('invalid_parameter', `the backup volume has no absolute path (${options.volumePath})`, {
        field: 'volumePath',
      })
    return new DirectoryStore(options.volumePath)
  }
  return openS3(destination.s3, options)
}

/**
 * Opens a store by its URL: `file:///dir`, or `s3://bucket/prefix?endpoint=https://host:port&region=R&pathStyle=true&caFile=/path`.
 * With an endpoint path style is the default. Errors: invalid_parameter, unknown_parameter.
 */
export async function openStoreUrl(text: string, options: OpenStoreOptions): Promise<BackupStore> {
  let url: URL
  try {
    url = new URL(text)
  } catch (thrown) {
    throw invalid(text, 'is not a URL', thrown)
  }
  if (url.protocol === 'file:') {
    if (url.search !== '') throw invalid(text, 'has parameters, which a directory does not take')
    if (url.host !== '') throw invalid(text, `names the host '${url.host}'; write file:///path`)
    return new DirectoryStore(fileURLToPath(url))
  }
  if (url.protocol !== 's3:') throw invalid(text, 'has another scheme')
  if (url.username !== '' || url.password !== '')
    throw invalid('s3://…', 'holds credentials; give them by environment or file')
  const given: { endpoint?: string; region?: string; pathStyle?: string; caFile?: string } = Object.fromEntries(
    url.searchParams,
  )
  for (const name of Object.keys(given)) {
    if (!S3_PARAMETERS.includes(name))
      throw new KvidxError(
        'unknown_parameter',
        `${text}: '${name}' is not known (allowed: ${S3_PARAMETERS.join(', ')})`,
        { field: name },
      )
  }
  const { pathStyle, caFile } = given
  if (pathStyle !== undefined && pathStyle !== 'true' && pathStyle !== 'false')
    throw new KvidxError('invalid_parameter', `pathStyle: '${pathStyle}' (allowed: true, false)`, {
      field: 'pathStyle',
    })
  const ca = caFile === undefined ? options.ca : await readAuthority(caFile)
  return openS3(
    {
      bucket: url.hostname,
      prefix: decodeURIComponent(url.pathname),
      ...(given.endpoint !== undefined && { endpoint: given.endpoint }),
      ...(given.region !== undefined && { region: given.region }),
      ...(pathStyle !== undefined && { pathStyle: pathStyle === 'true' }),
    },
    { ...options, ...(ca !== undefined && { ca }) },
  )
}

function openS3(s3: Extract<StoreDestination, { s3: object }>['s3'], options: OpenStoreOptions): BackupStore {
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(s3.bucket))
    throw new KvidxError(
      'invalid_parameter',
      `bucket: '${s3.bucket}' (allowed: 3 to 63 of a-z, 0-9, '.', '-', a letter or digit at both ends)`,
      { field: 'bucket' },
    )
  if (s3.endpoint !== undefined) checkEndpoint(s3.endpoint)
  if (!options.credentials)
    throw new KvidxError(
      'store_denied',
      `s3://${s3.bucket} needs credentials: an access key id and a secret access key`,
    )
  return new S3Store({
    bucket: s3.bucket,
    prefix: s3.prefix ?? '',
    region: s3.region ?? DEFAULT_REGION,
    pathStyle: s3.pathStyle ?? s3.endpoint !== undefined,
    credentials: options.credentials,
    clock: options.clock,
    ...(s3.endpoint !== undefined && { endpoint: s3.endpoint }),
    ...(options.ca !== undefined && { ca: options.ca }),
  })
}

function checkEndpoint(endpoint: string): void {
  const allowed = 'allowed: http://host[:port] or https://host[:port], without credentials and parameters'
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '' || url.search !== '')
    throw new KvidxError(
      'invalid_parameter',
      `endpoint: '${url && url.username !== '' ? '…' : endpoint}' (${allowed})`,
      {
        field: 'endpoint',
      },
    )
}

async function readAuthority(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (thrown) {
    throw new KvidxError('invalid_parameter', `caFile: ${(thrown as Error).message}`, { field: 'caFile' }, thrown)
  }
}

function invalid(text: string, what: string, cause?: unknown): KvidxError {
  return new KvidxError(
    'invalid_parameter',
    `the store '${text}' ${what} (allowed: file:///directory or s3://bucket/prefix?endpoint=…&region=…&pathStyle=true)`,
    { field: 'store' },
    cause,
  )
}

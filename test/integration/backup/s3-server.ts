import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { S3Store, type S3StoreOptions } from '../../../sidecar/backup/store/s3.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { standalonePaths } from '../../../src/standalone/paths.ts'
import { findVersitygw, type RunningS3, startVersitygw } from '../../servers/versitygw.ts'

/** Path of the S3 server; undefined when it was not built here, which is said aloud and fails under CI. */
export const s3Binary = findVersitygw()
if (!s3Binary) {
  const message = 'versitygw is not built, so S3 is NOT tested here: run node test/servers/versitygw.ts build'
  if (process.env.CI) throw new Error(message)
  console.warn(`\n*** ${message} ***\n`)
}

export async function startS3(): Promise<RunningS3> {
  if (!s3Binary) throw new Error('versitygw is not built')
  return await startVersitygw(s3Binary)
}

let buckets = 0

function newBucket(server: RunningS3, name = `bucket-${++buckets}`): string {
  mkdirSync(join(server.directory, name), { recursive: true })
  return name
}

/** A store in a new bucket of the server. */
export function s3StoreIn(server: RunningS3, options: Partial<S3StoreOptions> = {}): S3Store {
  const bucket = newBucket(server, options.bucket)
  const { accessKeyId, secretAccessKey } = server
  return new S3Store({
    bucket,
    prefix: '',
    endpoint: server.endpoint,
    region: 'us-east-1',
    pathStyle: true,
    credentials: () => ({ accessKeyId, secretAccessKey }),
    clock: systemClock,
    ...options,
  })
}

/** A destination in a new bucket of the server for the database `orders` below a root, whose credentials are put where it looks for them. */
export function s3Destination(server: RunningS3, root: string) {
  const bucket = newBucket(server)
  const credentials = join(standalonePaths(root, 'default', 'orders').directory, 's3-credentials')
  mkdirSync(credentials, { recursive: true })
  for (const name of ['accessKeyId', 'secretAccessKey'] as const) writeFileSync(join(credentials, name), server[name])
  const { endpoint } = server
  const s3 = { bucket, prefix: 'prod', endpoint, region: 'us-east-1', pathStyle: true }
  return { s3: { ...s3, credentialsSecretRef: { name: 'x' } } }
}

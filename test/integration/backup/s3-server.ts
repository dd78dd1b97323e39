import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { S3Store, type S3StoreOptions } from '../../../sidecar/backup/store/s3.ts'
import { systemClock } from '../../../src/common/clock.ts'
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

/** A store in a new bucket of the server. */
export function s3StoreIn(server: RunningS3, options: Partial<S3StoreOptions> = {}): S3Store {
  const bucket = options.bucket ?? `bucket-${++buckets}`
  mkdirSync(join(server.directory, bucket), { recursive: true })
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

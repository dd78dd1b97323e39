import { setTimeout as sleep } from 'node:timers/promises'
import { KvidxError } from '../../../src/common/errors.ts'
import { readAll } from './body.ts'
import { type S3Client, single } from './s3-client.ts'
import { elements, encodeEntities, text } from './s3-xml.ts'

const MIB = 1024 * 1024
/** S3's bounds: 10,000 parts, each but the last at least 5 MiB. All parts have one size, as some stores demand. */
const MOST_PARTS = 10_000
const SMALLEST_PART = 8 * MIB
/** For streams of unknown length. */
const DEFAULT_PART = 16 * MIB
/** What parts in flight may hold together. One more part is being filled meanwhile. */
const MEMORY = 48 * MIB
const LARGEST_PART = 48 * MIB

export interface PartPlan {
  /** bytes of each part but the last */
  readonly size: number
  /** uploads at the same time, at least 1 */
  readonly concurrency: number
}

/** Chooses part size and concurrency so that memory stays below 96 MiB. Errors: too_large above 468 GiB. @param atMost bytes of the body, undefined when unknown */
export function planParts(atMost: number | undefined): PartPlan {
  const wanted = atMost === undefined ? DEFAULT_PART : Math.ceil(atMost / MOST_PARTS / MIB) * MIB
  if (wanted > LARGEST_PART)
    throw new KvidxError(
      'too_large',
      `an object of ${atMost} bytes is above the ${(LARGEST_PART / MIB) * MOST_PARTS} MiB that one multipart upload takes in bounded memory`,
    )
  const size = Math.max(SMALLEST_PART, wanted)
  return { size, concurrency: Math.min(3, Math.max(1, Math.floor(MEMORY / size))) }
}

interface Part {
  readonly number: number
  readonly etag: string
}

/** Uploads the blocks as one object, which appears only when all are there. On failure the upload is aborted where that is allowed. */
export async function uploadParts(
  client: S3Client,
  key: string,
  begun: readonly Buffer[],
  rest: AsyncIterable<Buffer>,
  plan: PartPlan,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stop = new AbortController()
  const linked = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal
  // waited for even when cancelled: an upload whose name we never learn cannot be aborted
  const uploadId = await create(client, key)
  const running = new Set<Promise<void>>()
  try {
    const parts: Part[] = []
    let number = 0
    let total = 0
    const start = (block: Buffer) => {
      const mine = ++number
      if (mine > MOST_PARTS)
        throw new KvidxError(
          'too_large',
          `${key} has more than ${MOST_PARTS} parts of ${plan.size} bytes: say its size beforehand`,
        )
      total += block.length
      const task = uploadPart(client, key, uploadId, mine, block, linked)
        .then(part => void parts.push(part))
        .finally(() => running.delete(task))
      running.add(task)
      // a failure is met at the next race; until then it must not count as unhandled
      task.catch(() => undefined)
    }
    for (const block of begun) start(block)
    for await (const block of rest) {
      while (running.size >= plan.concurrency) await Promise.race(running)
      start(block)
    }
    await Promise.all(running)
    if (parts.length !== number) throw new KvidxError('store_unreachable', `${key}: a part of the upload failed`)
    parts.sort((a, b) => a.number - b.number)
    await complete(client, key, uploadId, parts, total, linked)
  } catch (thrown) {
    stop.abort(thrown)
    await Promise.allSettled(running)
    await abort(client, key, uploadId)
    throw thrown
  }
}

async function create(client: S3Client, key: string): Promise<string> {
  const response = await client.send({ method: 'POST', key, query: { uploads: '' } })
  const id = text((await readAll(response.body, MIB, 'the answer')).toString('utf8'), 'UploadId')
  if (!id) throw new KvidxError('store_unreachable', `${key}: the store began an upload without naming it`)
  return id
}

async function uploadPart(
  client: S3Client,
  key: string,
  uploadId: string,
  number: number,
  body: Buffer,
  signal: AbortSignal,
): Promise<Part> {
  const query = { partNumber: String(number), uploadId }
  const response = await client.send({ method: 'PUT', key, query, body, signal })
  await response.body.dump()
  const etag = single(response.headers.etag)
  if (!etag) throw new KvidxError('store_unreachable', `${key}: the store took part ${number} without an ETag`)
  return { number, etag }
}

async function complete(
  client: S3Client,
  key: string,
  uploadId: string,
  parts: readonly Part[],
  total: number,
  signal: AbortSignal,
): Promise<void> {
  const list = parts.map(p => `<Part><PartNumber>${p.number}</PartNumber><ETag>${encodeEntities(p.etag)}</ETag></Part>`)
  const body = Buffer.from(
    `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${list.join('')}</CompleteMultipartUpload>`,
  )
  for (let turn = 0; ; turn++) {
    const response = await client.send({ method: 'POST', key, query: { uploadId }, body, accept: [404], signal })
    const xml = (await readAll(response.body, MIB, 'the answer')).toString('utf8')
    // S3 answers 200 before it is done and may still put an error into the body
    const failed = response.status === 404 || elements(xml, 'Error').length > 0
    if (!failed) break
    // a completion whose answer was lost leaves no upload but the object; its size is checked below
    if (response.status === 404 && (response.repeated || turn > 0)) break
    if (response.status === 404 || turn === 3)
      throw new KvidxError(
        'store_unreachable',
        `${key}: the upload cannot be completed: ${text(xml, 'Code')} ${text(xml, 'Message')}`,
      )
  }
  const head = await client.send({ method: 'HEAD', key, signal })
  await head.body.dump()
  const size = Number(single(head.headers['content-length']))
  if (size !== total)
    throw new KvidxError('backup_corrupt', `${key}: ${total} bytes were uploaded, the store has ${size}`, { key })
}

/**
 * Best effort: without the right to abort, the bucket's own rule or `prune` removes what is left. A part that the store was still
 * taking when we broke off can outlive an abort, so it is repeated until the upload is not known any more.
 */
async function abort(client: S3Client, key: string, uploadId: string): Promise<void> {
  const signal = AbortSignal.timeout(10_000)
  try {
    for (let turn = 0; turn < 4; turn++) {
      if (turn > 0) await sleep(50 * 2 ** turn)
      const response = await client.send({ method: 'DELETE', key, query: { uploadId }, accept: [404], signal })
      await response.body.dump()
      if (response.status === 404) return
    }
  } catch {
    // the error that led here is the one to tell
  }
}

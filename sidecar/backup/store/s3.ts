import type { Clock } from '../../../src/common/clock.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { blocks, chunksOf, readAll, throwIfAborted } from './body.ts'
import { checkKey, checkPrefix } from './key.ts'
import { retrying } from './retry.ts'
import { S3Client, type S3ClientOptions, type S3Response, single } from './s3-client.ts'
import { type PartPlan, planParts, uploadParts } from './s3-multipart.ts'
import { elements, isWhole, text } from './s3-xml.ts'
import type {
  BackupStore,
  GetOptions,
  ListOptions,
  ListPage,
  ObjectBody,
  ObjectInfo,
  OpenObject,
  PartialUpload,
  PutOptions,
} from './store.ts'

export interface S3StoreOptions extends S3ClientOptions {
  /** Put before every key with a `/`; '' for none. */
  readonly prefix: string
  /** Changes how bodies are cut; tests make the parts small. */
  readonly parts?: PartPlan
}

/** The answer of this object tells whether the endpoint knows `If-None-Match: *`. It is left in place. */
const PROBE = '.kvidx/create-only'
const PROBE_BODY = Buffer.from(
  'kvidx writes this object twice with If-None-Match: * to see whether the second is refused\n',
)
/**
 * Where the endpoint cannot create-only: how long we wait before reading back what we wrote. Two writers that both saw no object
 * within this time see one winner; a writer slower than this between its look and its write is not noticed (docs/formats.md, section 7).
 */
const SETTLE_MS = 500
/** A listing is read anew when it breaks off. */
const LISTING_ATTEMPTS = 3
const LARGEST_LISTING = 16 * 1024 * 1024
/** A stream that broke so often without a byte in between is given up. */
const RESUMPTIONS = 5

/** A store in a bucket of any S3-compatible endpoint. Needs GetObject, PutObject, ListBucket; DeleteObject only for pruning. */
export class S3Store implements BackupStore {
  readonly location: string
  readonly #client: S3Client
  readonly #prefix: string
  readonly #parts: PartPlan | undefined
  readonly #clock: Clock
  #createOnly: Promise<boolean> | undefined

  constructor(options: S3StoreOptions) {
    const prefix = options.prefix.replace(/^\/+|\/+$/g, '')
    checkPrefix(prefix)
    this.#prefix = prefix === '' ? '' : `${prefix}/`
    this.#clock = options.clock
    this.#parts = options.parts
    this.location = `s3://${options.bucket}${prefix && `/${prefix}`}`
    this.#client = new S3Client(options)
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    checkKey(key)
    const { signal } = options
    throwIfAborted(signal)
    const plan = this.#parts ?? planParts(body instanceof Uint8Array ? body.length : options.atMost)
    const source = blocks(chunksOf(body), plan.size)
    try {
      const first = (await source.next()).value ?? Buffer.alloc(0)
      const second = first.length < plan.size ? undefined : (await source.next()).value
      if (second === undefined || second.length === 0) await this.#putWhole(key, first, signal)
      else await uploadParts(this.#client, this.#prefix + key, [first, second], source, plan, signal)
    } finally {
      await source.return(undefined)
    }
  }

  async putIfAbsent(key: string, body: Uint8Array, signal?: AbortSignal): Promise<'created' | 'exists'> {
    checkKey(key)
    if (await this.#knowsCreateOnly(signal)) return this.#create(key, body, signal)
    // the look, the write and the reading back: all that such an endpoint allows
    if (await this.head(key, signal)) return 'exists'
    await this.#putWhole(key, body, signal)
    await this.#clock.sleep(SETTLE_MS, signal)
    return (await this.#holds(key, body, signal)) ? 'created' : 'exists'
  }

  async get(key: string, options: GetOptions = {}): Promise<OpenObject> {
    checkKey(key)
    const { signal, range } = options
    const start = range?.start ?? 0
    if (range?.end !== undefined && range.end <= start) return this.#emptyRange(key, start, range.end, signal)
    const first = await this.#open(key, start, range?.end, undefined, signal)
    const end = range?.end ?? first.size
    if (start > first.size || end > first.size) {
      first.body.destroy()
      throw new KvidxError(
        'range_not_satisfiable',
        `${key}: bytes ${start} to ${end} lie outside its ${first.size} bytes`,
      )
    }
    return { size: first.size, chunks: this.#read(key, first, start, end, signal) }
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    checkKey(key)
    const response = await this.#client.send({
      method: 'HEAD',
      key: this.#prefix + key,
      accept: [404],
      ...(signal && { signal }),
    })
    await response.body.dump()
    if (response.status === 404) return undefined
    return {
      key,
      size: Number(single(response.headers['content-length']) ?? 0),
      modified: Date.parse(single(response.headers['last-modified']) ?? '') || 0,
    }
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    checkPrefix(prefix)
    const { after, folders, signal } = options
    const limit = Math.min(1000, Math.max(1, options.limit ?? 1000))
    const query = {
      'list-type': '2',
      prefix: this.#prefix + prefix,
      'max-keys': String(limit),
      // a folder as start-after would come again, since its objects sort behind it
      ...(after !== undefined && { 'start-after': this.#prefix + (after.endsWith('/') ? `${after}~~~~` : after) }),
      ...(folders && { delimiter: '/' }),
    }
    const xml = await this.#xml({ method: 'GET', query, ...(signal && { signal }) })
    const objects = elements(xml, 'Contents').map(item => ({
      key: this.#relative(text(item, 'Key') ?? ''),
      size: Number(text(item, 'Size') ?? 0),
      modified: Date.parse(text(item, 'LastModified') ?? '') || 0,
    }))
    const found = elements(xml, 'CommonPrefixes').map(item => this.#relative(text(item, 'Prefix') ?? ''))
    const last = [objects.at(-1)?.key, found.at(-1)].reduce((a, b) =>
      b !== undefined && (a === undefined || b > a) ? b : a,
    )
    const more = text(xml, 'IsTruncated') === 'true' && last !== undefined
    return { objects: objects.filter(item => item.key !== PROBE), folders: found, ...(more && { next: last }) }
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    checkKey(key)
    const response = await this.#client.send({
      method: 'DELETE',
      key: this.#prefix + key,
      accept: [404],
      ...(signal && { signal }),
    })
    await response.body.dump()
  }

  async listPartial(prefix: string, signal?: AbortSignal): Promise<readonly PartialUpload[]> {
    checkPrefix(prefix)
    const found: PartialUpload[] = []
    let marker: Record<string, string> = {}
    for (;;) {
      const query = { uploads: '', prefix: this.#prefix + prefix, ...marker }
      const xml = await this.#xml({ method: 'GET', query, ...(signal && { signal }) })
      for (const item of elements(xml, 'Upload')) {
        const [key, id] = [text(item, 'Key'), text(item, 'UploadId')]
        if (key !== undefined && id !== undefined)
          found.push({ key: this.#relative(key), id, modified: Date.parse(text(item, 'Initiated') ?? '') || 0 })
      }
      const [nextKey, nextId] = [text(xml, 'NextKeyMarker'), text(xml, 'NextUploadIdMarker')]
      if (text(xml, 'IsTruncated') !== 'true' || !nextKey) return found
      marker = { 'key-marker': nextKey, ...(nextId && { 'upload-id-marker': nextId }) }
    }
  }

  async removePartial(partial: PartialUpload, signal?: AbortSignal): Promise<void> {
    const response = await this.#client.send({
      method: 'DELETE',
      key: this.#prefix + partial.key,
      query: { uploadId: partial.id },
      accept: [404],
      ...(signal && { signal }),
    })
    await response.body.dump()
  }

  close(): Promise<void> {
    return this.#client.close()
  }

  async #putWhole(key: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const response = await this.#client.send({
      method: 'PUT',
      key: this.#prefix + key,
      body,
      ...(signal && { signal }),
    })
    await response.body.dump()
  }

  async #create(key: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<'created' | 'exists'> {
    const response = await this.#client.send({
      method: 'PUT',
      key: this.#prefix + key,
      headers: { 'if-none-match': '*' },
      body,
      accept: [412],
      ...(signal && { signal }),
    })
    await response.body.dump()
    if (response.status !== 412) return 'created'
    // an attempt whose answer was lost may have been the one that created it
    return response.repeated && (await this.#holds(key, body, signal)) ? 'created' : 'exists'
  }

  async #holds(key: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<boolean> {
    const found = await this.get(key, signal && { signal })
    if (found.size !== body.length) {
      for await (const _ of found.chunks) break
      return false
    }
    return (await readAll(found.chunks, body.length, key)).equals(body)
  }

  #knowsCreateOnly(signal: AbortSignal | undefined): Promise<boolean> {
    this.#createOnly ??= this.#probe(signal).catch((thrown: unknown) => {
      this.#createOnly = undefined
      throw thrown
    })
    return this.#createOnly
  }

  /** Once a process and store: an endpoint that ignores the header answers 200 twice, one that refuses it 501 or 400. */
  async #probe(signal: AbortSignal | undefined): Promise<boolean> {
    for (let turn = 0; turn < 2; turn++) {
      const response = await this.#client.send({
        method: 'PUT',
        key: this.#prefix + PROBE,
        headers: { 'if-none-match': '*' },
        body: PROBE_BODY,
        accept: [400, 412, 501],
        ...(signal && { signal }),
      })
      await response.body.dump()
      if (response.status === 412) return true
      if (response.status !== 200) return false
    }
    return false
  }

  #xml(call: Parameters<S3Client['send']>[0]): Promise<string> {
    const policy = { clock: this.#clock, random: Math.random, attempts: LISTING_ATTEMPTS }
    return retrying(policy, call.signal, async () => {
      const response = await this.#client.send(call)
      let cause: unknown
      try {
        const xml = (await readAll(response.body, LARGEST_LISTING, 'the listing')).toString('utf8')
        // half a listing would be taken for a store that has only that, where a backup without its manifest is nobody's
        if (isWhole(xml)) return { value: xml }
      } catch (thrown) {
        throwIfAborted(call.signal)
        if (thrown instanceof KvidxError) throw thrown
        cause = thrown
      }
      const what = `the listing of ${this.location} breaks off in the middle`
      return { retry: true, error: new KvidxError('store_unreachable', what, {}, cause) }
    })
  }

  #relative(key: string): string {
    return key.startsWith(this.#prefix) ? key.slice(this.#prefix.length) : key
  }

  async #emptyRange(key: string, start: number, end: number, signal: AbortSignal | undefined): Promise<OpenObject> {
    const found = await this.head(key, signal)
    if (!found) throw new KvidxError('backup_not_found', `${key} is not in ${this.location}`, { key })
    if (end < start || start > found.size)
      throw new KvidxError(
        'range_not_satisfiable',
        `${key}: bytes ${start} to ${end} lie outside its ${found.size} bytes`,
      )
    return { size: found.size, chunks: (async function* () {})() }
  }

  async #open(
    key: string,
    start: number,
    end: number | undefined,
    etag: string | undefined,
    signal: AbortSignal | undefined,
  ) {
    const ranged = start > 0 || end !== undefined
    const response = await this.#client.send({
      method: 'GET',
      key: this.#prefix + key,
      headers: {
        ...(ranged && { range: `bytes=${start}-${end === undefined ? '' : end - 1}` }),
        ...(etag !== undefined && { 'if-match': etag }),
      },
      accept: [412, 416],
      ...(signal && { signal }),
    })
    if (response.status === 412) {
      await response.body.dump()
      throw new KvidxError('backup_corrupt', `${key} was replaced while it was being read`, { key })
    }
    if (response.status === 416) {
      await response.body.dump()
      throw new KvidxError(
        'range_not_satisfiable',
        `${key}: bytes ${start} to ${end ?? 'its end'} lie outside the object`,
      )
    }
    const whole = /\/([0-9]+)$/.exec(single(response.headers['content-range']) ?? '')?.[1]
    const size = Number(whole ?? single(response.headers['content-length']) ?? Number.NaN)
    if (!Number.isSafeInteger(size) || (ranged && response.status !== 206)) {
      response.body.destroy()
      throw new KvidxError('store_unreachable', `GET ${key}: the store answers without a length or without the range`)
    }
    return { size, etag: single(response.headers.etag), body: response.body }
  }

  async *#read(
    key: string,
    first: { etag: string | undefined; body: S3Response['body'] },
    start: number,
    end: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    let { body } = first
    let at = start
    let broken = 0
    for (;;) {
      try {
        for await (const chunk of body as AsyncIterable<Buffer>) {
          if (at + chunk.length > end)
            throw new KvidxError('backup_corrupt', `${key} has more bytes than the store said (${end - start})`)
          at += chunk.length
          broken = 0
          yield chunk
        }
      } catch (thrown) {
        throwIfAborted(signal)
        if (thrown instanceof KvidxError) throw thrown
        if (++broken > RESUMPTIONS)
          throw new KvidxError('store_unreachable', `GET ${key} broke off at byte ${at} of ${end}`, { key }, thrown)
      } finally {
        body.destroy()
      }
      if (at >= end) return
      if (++broken > RESUMPTIONS * 2)
        throw new KvidxError('store_unreachable', `GET ${key} ends at byte ${at} of ${end}`, { key })
      try {
        body = (await this.#open(key, at, end, first.etag, signal)).body
      } catch (thrown) {
        // the same object, but shorter than it was said to be: nothing is known of its bytes
        if (thrown instanceof KvidxError && thrown.code === 'range_not_satisfiable')
          throw new KvidxError(
            'store_unreachable',
            `GET ${key} ends at byte ${at}, the store said ${end}`,
            { key },
            thrown,
          )
        throw thrown
      }
    }
  }
}

import { KvidxError } from '../../src/common/errors.ts'
import type { BackupResult, SourceRecord } from '../backup/backup.ts'
import { epochsOf } from '../backup/manifest.ts'
import type { KeySlice, SlicedDatabase } from '../backup/sliced-source.ts'
import type { ChangesSource, SnapshotSource } from '../backup/snapshot-source.ts'
import { SNAPSHOT_TYPE, type SnapshotHead, SnapshotReader } from '../backup/snapshot-stream.ts'
import type { DatabaseState, EpochRecord } from '../database/database.ts'
import {
  CHANGE_FILE_HEADER,
  changesOf,
  checkChangeFileHeader,
  FrameSplitter,
  readFrameHeader,
} from '../database/frame.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition, parsePosition } from '../database/position.ts'
import type { EngineKind, KeyRange, StoredRecord } from '../engine/engine.ts'

/** The change log is kept for a job that reads in slices so long without a word from it. */
const SLICES_LEASE = '15m'

/** One HTTP answer, as far as it is needed here. */
export interface CallerAnswer {
  readonly body: AsyncIterable<Uint8Array>
  bytes(): Promise<Buffer>
  json(): Promise<Record<string, unknown>>
}

/** Whoever speaks HTTP to a database. Rejects with the KvidxError of a problem document. */
export interface DatabaseCaller {
  call(
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: string,
    options?: {
      readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: Uint8Array
      readonly long?: true
    },
  ): Promise<CallerAnswer>
}

/** What the database says of itself before a backup. */
export interface SourceInfo {
  readonly namespace: string
  readonly database: string
  readonly lineage: string
  readonly engine: EngineKind
  readonly engineVersion: string
  readonly epochs: readonly EpochRecord[]
  readonly position: Position
  readonly logBase: Position
  readonly recorded: SourceRecord
  readonly consumers: Readonly<Record<string, { readonly position: string; readonly seen: number }>>
  /** Its own store, as a URL. */
  readonly store?: string
  readonly encryption?: { readonly directory: string; readonly keyId: string }
}

/** A running database, seen from a job in another process. */
export class DatabaseClient {
  readonly #caller: DatabaseCaller

  constructor(caller: DatabaseCaller) {
    this.#caller = caller
  }

  async source(): Promise<SourceInfo> {
    const answer = await this.#caller.call('GET', '/v1/admin/source')
    const document = (await answer.json()) as unknown as SnapshotHead &
      Pick<SourceInfo, 'consumers' | 'store' | 'encryption'>
    const { namespace, database, lineage, consumers, store, encryption } = document
    const state = stateOf(document)
    return {
      namespace,
      database,
      lineage,
      ...describe(document),
      position: state.position,
      logBase: state.logBase,
      recorded: recordOf(state),
      consumers,
      ...(store !== undefined && { store }),
      ...(encryption && { encryption }),
    }
  }

  /** A consistent moment; read `records` to its end before `expiries`. Release it. */
  async snapshot(): Promise<SnapshotSource> {
    const answer = await this.#caller.call('GET', '/v1/admin/snapshot', {
      headers: { accept: SNAPSHOT_TYPE },
      long: true,
    })
    const reader = new SnapshotReader(answer.body)
    const head = await reader.open()
    return {
      lineage: head.lineage,
      ...describe(head),
      state: stateOf(head),
      ...(head.minKey !== undefined && { minKey: BigInt(head.minKey) }),
      ...(head.maxKey !== undefined && { maxKey: BigInt(head.maxKey) }),
      records: () => reader.records,
      expiries: () => reader.expiries,
      release: () => void reader.close().catch(() => {}),
    }
  }

  /** For a database that had to let go of its snapshot. The change log is held from here on, in the name of the consumer. */
  async slices(consumer: string): Promise<SlicedDatabase> {
    const head = (await (await this.#caller.call('GET', '/v1/admin/source')).json()) as unknown as SnapshotHead
    const state = stateOf(head)
    const hold = (position: Position) => this.setConsumer(consumer, position, SLICES_LEASE)
    await hold(state.position)
    const { maxKey } = (await (await this.#caller.call('GET', '/v1/stats')).json()) as { maxKey?: string }
    return {
      ...{ lineage: head.lineage, ...describe(head), state, hold },
      maxKey: maxKey === undefined ? undefined : BigInt(maxKey),
      slice: (range, bytes) => this.#slice(range, bytes),
      frames: since => this.#frames(since),
      letGo: () => this.#removeConsumer(consumer),
    }
  }

  /** Commits behind a position. */
  changes(info: SourceInfo, since: Position): ChangesSource {
    const { lineage, epochs, engine, engineVersion } = info
    return { lineage, epochs, engine, engineVersion, frames: () => this.#frames(since) }
  }

  /** What the database recorded at a position, if it stands there or its change log still has the commit. */
  async recordedAt(position: Position): Promise<SourceRecord | undefined> {
    const now = await this.source()
    if (formatPosition(now.position) === formatPosition(position)) return now.recorded
    if (position.seq === 0n || position.seq <= now.logBase.seq) return undefined
    try {
      const splitter = new FrameSplitter()
      for await (const chunk of this.#frames({ epoch: position.epoch, seq: position.seq - 1n }))
        for (const frame of splitter.push(chunk)) {
          const header = readFrameHeader(frame)
          if (header.lastSeq !== position.seq || header.epoch !== position.epoch) return undefined
          return { position, ...header.after }
        }
    } catch {
      // another branch, or trimmed meanwhile: then nobody knows it any more
    }
    return undefined
  }

  /** @param lease a duration, after which the database forgets it */
  async setConsumer(name: string, position: Position, lease?: string): Promise<void> {
    const query = { name, position: formatPosition(position), lease }
    await (await this.#caller.call('PUT', '/v1/admin/consumers', { query })).bytes()
  }

  async report(document: object): Promise<void> {
    const body = Buffer.from(JSON.stringify(document))
    const headers = { 'content-type': 'application/json' }
    await (await this.#caller.call('PUT', '/v1/admin/backup-report', { body, headers })).bytes()
  }

  async #removeConsumer(name: string): Promise<void> {
    await (await this.#caller.call('DELETE', '/v1/admin/consumers', { query: { name } })).bytes()
  }

  async #slice({ start, end }: KeyRange, bytes: number): Promise<KeySlice> {
    const query = { start: String(start), end: String(end), bytes }
    const file = await (await this.#caller.call('GET', '/v1/admin/slice', { query, long: true })).bytes()
    checkChangeFileHeader(file.subarray(0, CHANGE_FILE_HEADER), 'records')
    const splitter = new FrameSplitter()
    const [frame, ...others] = splitter.push(file.subarray(CHANGE_FILE_HEADER))
    splitter.end()
    if (!frame || others.length > 0) throw new KvidxError('backup_corrupt', 'a key slice has not one frame')
    const { epoch, firstSeq } = readFrameHeader(frame)
    const records: StoredRecord[] = []
    for (const change of changesOf(frame)) if (change.kind === 'put') records.push(change.record)
    return { position: { epoch, seq: firstSeq }, records }
  }

  async *#frames(since: Position): AsyncGenerator<Uint8Array> {
    const answer = await this.#caller.call('GET', '/v1/changes', {
      query: { since: formatPosition(since) },
      headers: { accept: 'application/vnd.kvidx.changes' },
      long: true,
    })
    let header = Buffer.alloc(0)
    for await (const chunk of answer.body) {
      let rest: Uint8Array = chunk
      if (header.length < CHANGE_FILE_HEADER) {
        const take = Math.min(CHANGE_FILE_HEADER - header.length, chunk.length)
        header = Buffer.concat([header, chunk.subarray(0, take)])
        rest = chunk.subarray(take)
      }
      if (rest.length > 0) yield rest
    }
    checkChangeFileHeader(header, 'commits')
  }
}

function describe(head: SnapshotHead) {
  return {
    engine: head.engine as EngineKind,
    engineVersion: head.engineVersion,
    epochs: epochsOf(head.epochs as unknown as BackupResult['manifest']['epochs']),
  }
}

function stateOf(head: SnapshotHead): DatabaseState {
  return {
    position: parsePosition(head.position, 'position'),
    time: BigInt(head.time),
    count: BigInt(head.count),
    dataBytes: BigInt(head.dataBytes),
    digest: BigInt(`0x${head.digest}`),
    expiring: BigInt(head.expiring),
    logBase: parsePosition(head.logBase, 'logBase'),
    logBytes: 0n,
  }
}

function recordOf({ position, count, dataBytes, digest }: DatabaseState): SourceRecord {
  return { position, count, dataBytes, digest }
}

import type { BackupResult, SourceRecord } from '../backup/backup.ts'
import { epochsOf } from '../backup/manifest.ts'
import type { ChangesSource, SnapshotSource } from '../backup/snapshot-source.ts'
import { SNAPSHOT_TYPE, type SnapshotHead, SnapshotReader } from '../backup/snapshot-stream.ts'
import type { DatabaseState, EpochRecord } from '../database/database.ts'
import { CHANGE_FILE_HEADER, checkChangeFileHeader, FrameSplitter, readFrameHeader } from '../database/frame.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition, parsePosition } from '../database/position.ts'
import type { EngineKind } from '../engine/engine.ts'

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

  async setConsumer(name: string, position: Position): Promise<void> {
    const query = { name, position: formatPosition(position) }
    await (await this.#caller.call('PUT', '/v1/admin/consumers', { query })).bytes()
  }

  async report(document: object): Promise<void> {
    const body = Buffer.from(JSON.stringify(document))
    const headers = { 'content-type': 'application/json' }
    await (await this.#caller.call('PUT', '/v1/admin/backup-report', { body, headers })).bytes()
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

import { join } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import type {
  EngineFigures,
  EngineReader,
  EngineShare,
  EngineSnapshot,
  IntegrityReport,
  Key,
  Progress,
  StoredRecord,
} from '../engine.ts'
import type { Address } from '../native/memory.ts'
import { rocksFigures } from './figures.ts'
import { checkIntegrity } from './integrity.ts'
import { DIRECTORY } from './open.ts'
import { type RocksHandles, Session } from './session.ts'
import { RocksView } from './view.ts'

/** Attempts to see record and metadata between two commits before a snapshot is taken for it. */
const ATTEMPTS = 4

/** Reads in this thread beside the writer of `share`. Error: `not_ready` if that is closed. Close it before the writer and before the thread ends. */
export function openRocksReader(share: EngineShare): EngineReader {
  return new RocksReader(share)
}

class RocksReader implements EngineReader {
  readonly #session: Session
  readonly #view: RocksView
  readonly #path: string
  readonly #snapshots = new Set<RocksSnapshot>()
  /** Metadata read last, good for as long as the database's sequence number is the same. */
  #meta: { name: string; sequence: number; value: Uint8Array | undefined } = {
    name: '',
    sequence: -1,
    value: undefined,
  }
  #closed = false

  constructor(share: EngineShare) {
    this.#session = new Session(handlesOf(share))
    this.#session.gate.enter()
    this.#view = new RocksView(this.#session)
    this.#path = join(share.options.directory, DIRECTORY)
  }

  /**
   * RocksDB publishes a commit by moving its sequence number on, after the commit is durable. If the number is the same before and after, both
   * reads saw the same commit; that costs a tenth of what a snapshot does.
   */
  getWithMeta(key: Key, name: string): { record: StoredRecord | undefined; meta: Uint8Array | undefined } {
    this.#ensureOpen()
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const sequence = this.#sequence()
      const record = this.#view.getCopy(key)
      const known = this.#meta
      const hit = known.sequence === sequence && known.name === name
      const meta = hit ? known.value : this.#view.getMeta(name)
      if (this.#sequence() !== sequence) continue
      if (!hit) this.#meta = { name, sequence, value: meta }
      return { record, meta }
    }
    const snapshot = this.#snapshot()
    try {
      return { record: snapshot.getCopy(key), meta: snapshot.getMeta(name) }
    } finally {
      snapshot.release()
    }
  }

  getMeta(name: string): Uint8Array | undefined {
    this.#ensureOpen()
    return this.#view.getMeta(name)
  }

  snapshot(): EngineSnapshot {
    return this.#snapshot()
  }

  async checkIntegrity(progress: Progress): Promise<IntegrityReport> {
    const snapshot = this.#snapshot()
    try {
      return checkIntegrity(this.#session, snapshot, snapshot.address, progress)
    } finally {
      snapshot.release()
    }
  }

  figures(): EngineFigures {
    this.#ensureOpen()
    return rocksFigures(this.#session, this.#path)
  }

  close(): void {
    if (this.#closed) return
    this.#session.ensureIdle()
    for (const snapshot of [...this.#snapshots]) snapshot.release()
    this.#closed = true
    this.#view.free()
    this.#session.end()
    this.#session.gate.leave()
  }

  #snapshot(): RocksSnapshot {
    this.#ensureOpen()
    const snapshot = new RocksSnapshot(this.#session, () => this.#snapshots.delete(snapshot))
    this.#snapshots.add(snapshot)
    return snapshot
  }

  #sequence(): number {
    return this.#session.library.rocksdb_get_latest_sequence_number(this.#session.handles.database)
  }

  #ensureOpen(): void {
    if (this.#closed) throw new KvidxError('not_ready', 'the reader is closed')
    this.#session.ensureOpen()
  }
}

class RocksSnapshot extends RocksView implements EngineSnapshot {
  readonly address: Address
  readonly #released: () => void
  #live = true

  constructor(session: Session, released: () => void) {
    const address = session.library.rocksdb_create_snapshot(session.handles.database)
    super(session, address)
    this.address = address
    this.#released = released
  }

  release(): void {
    if (!this.#live) return
    this.#live = false
    this.free()
    this.session.library.rocksdb_release_snapshot(this.session.handles.database, this.address)
    this.#released()
  }
}

function handlesOf({ handles }: EngineShare): RocksHandles {
  const { database, records, expiry, changes, meta, gate } = handles ?? {}
  if (!database || !records || !expiry || !changes || !meta || !gate) {
    throw new KvidxError('internal', 'the share of a RocksDB database has no handles')
  }
  return { database, records, expiry, changes, meta, gate }
}

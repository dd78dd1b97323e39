import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { type BackupContext, type BackupResult, backupFull, backupIncremental } from '../../../sidecar/backup/backup.ts'
import { type Backup, type LineageCatalog, readLineage } from '../../../sidecar/backup/catalog.ts'
import { type KeyRing, NO_KEYS } from '../../../sidecar/backup/key-ring.ts'
import type { Home } from '../../../sidecar/backup/layout.ts'
import { snapshotOf } from '../../../sidecar/backup/snapshot-source.ts'
import { DirectoryStore } from '../../../sidecar/backup/store/directory.ts'
import type { BackupStore } from '../../../sidecar/backup/store/store.ts'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import type { DatabaseState } from '../../../sidecar/database/database.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import type { Operation } from '../../../sidecar/database/operation.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { random as stream } from '../../support/random.ts'

/** Repeatable randomness. */
export class Random {
  readonly #next: () => number

  constructor(seed: number) {
    this.#next = stream(seed)
  }

  /** 0 … limit - 1 */
  below(limit: number): number {
    return Math.floor(this.#next() * limit)
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length)
    for (let i = 0; i < length; i++) bytes[i] = this.below(256)
    return bytes
  }
}

const LAST_KEY = 2n ** 64n - 1n

/** A real database with real writes, and a store beside it. */
export class Source {
  readonly root = mkdtempSync(join(tmpdir(), 'kvidx-backup-'))
  readonly database: LocalDatabase
  readonly store: BackupStore
  readonly ledger: DatabaseState[] = []
  readonly signal = new AbortController().signal
  readonly #keys: KeyRing
  #backups = 0

  private constructor(engine: EngineKind, keys: KeyRing, store: BackupStore | undefined) {
    const data = join(this.root, 'data')
    const backups = join(this.root, 'store')
    mkdirSync(data)
    mkdirSync(backups)
    this.#keys = keys
    this.store = store ?? new DirectoryStore(backups)
    const config = databaseConfig({ name: 'orders', engine, dataDirectory: data, tuning: { syncMode: 'Off' } })
    this.database = new LocalDatabase(config, systemClock, pino({ level: 'silent' }))
  }

  static async open(engine: EngineKind, keys: KeyRing = NO_KEYS, store?: BackupStore): Promise<Source> {
    const source = new Source(engine, keys, store)
    await source.database.open(source.signal)
    return source
  }

  get home(): Home {
    return { namespace: 'default', database: 'orders', lineage: this.database.lineage }
  }

  get context(): BackupContext {
    return { store: this.store, keys: this.#keys, clock: systemClock, software: 'test' }
  }

  /** A directory that does not exist yet. */
  fresh(name: string): string {
    return join(this.root, `${name}-${++this.#backups}`)
  }

  async write(operations: readonly Operation[]): Promise<void> {
    await this.database.write({ operations })
    this.ledger.push(this.database.state)
  }

  /** Commits of every kind over few keys, so that they meet. */
  async churn(random: Random, commits: number): Promise<void> {
    for (let i = 0; i < commits; i++) {
      const operations: Operation[] = []
      for (let n = 1 + random.below(5); n > 0; n--) operations.push(randomOperation(random))
      const before = this.database.state.position.seq
      await this.database.write({ operations })
      if (this.database.state.position.seq > before) this.ledger.push(this.database.state)
    }
  }

  async full(name = `full-${++this.#backups}`): Promise<BackupResult> {
    const snapshot = await snapshotOf(this.database, this.signal)
    try {
      return await backupFull(this.context, { home: this.home, name, verify: true }, snapshot)
    } finally {
      snapshot.release()
    }
  }

  async incremental(parent: Backup, name = `increment-${++this.#backups}`): Promise<BackupResult> {
    const { lineage, epochs, engine, engineVersion } = this.database
    const frames = () => this.database.changes(parent.position, false, this.signal)
    return backupIncremental(this.context, { home: this.home, name, verify: true }, parent, {
      lineage,
      epochs,
      engine,
      engineVersion,
      frames,
    })
  }

  catalog(): Promise<LineageCatalog> {
    return readLineage(this.store, this.home)
  }

  async close(): Promise<void> {
    await this.database.close()
    await this.store.close()
    rmSync(this.root, { recursive: true, force: true })
  }
}

function randomOperation(random: Random): Operation {
  const key = [0n, LAST_KEY, 2n ** 63n][random.below(20)] ?? BigInt(random.below(200))
  const kind = random.below(20)
  if (kind < 3) return { op: 'remove', key }
  if (kind === 3)
    return { op: 'removeRange', range: { start: key, end: key > 1000n ? LAST_KEY : key + BigInt(random.below(10)) } }
  const data = random.bytes(random.below(300))
  const expiry = random.below(4) === 0 ? { expiry: { at: 4_000_000_000_000n + BigInt(random.below(1000)) } } : {}
  return { op: 'put', key, term: BigInt(random.below(5)), cmd: LAST_KEY - BigInt(random.below(5)), data, ...expiry }
}

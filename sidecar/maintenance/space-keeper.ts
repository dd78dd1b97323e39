import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { shareOf, volumeSpace } from '../../src/common/volume-space.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import type { EngineFigures, EngineKind } from '../engine/engine.ts'
import { fileSize } from '../engine/files.ts'
import { scaleOf } from '../engine/rocksdb/scale.ts'
import { ballastSize, hasBallast, makeBallast, releaseBallast } from '../volume/ballast.ts'
import type { LiveSettings } from './live-settings.ts'
import { ENOUGH_SPACE, engineIsFull, judgeSpace, type Room, type SpaceState } from './no-space.ts'

/** While writes come in, free space is looked at so often, ms: one system call. */
const BETWEEN_COMMITS = 50
/** And whenever so much was added: a fast disk takes a small volume's reserve in less. */
const BETWEEN_BYTES = 1024 * 1024
/** Of the change log dropped at once while there is no space. */
const LOG_STEP = 16 * 1024 * 1024
/** A shorter log is left alone: it would free nothing. */
const LOG_KEPT = 256 * 1024
const PURGE_INTERVAL = 10_000
/** Beside the pages that are copied: growth of the shared-memory index, directory blocks. */
const CHECKPOINT_MARGIN = 256 * 1024
/** A SQLite log is copied back at this size while there is no space: some ten removes. */
const LOG_OF_REMOVES = 512 * 1024
/** RocksDB's tables, manifest and the log that it begins anew. */
const FLUSH_MARGIN = 4 * 1024 * 1024
const MIB = 1024 * 1024

/** Design section 4, NoSpace: refuses what adds data before the volume is full, makes room, and ends that by itself. */
export class SpaceKeeper {
  readonly #database: LocalDatabase
  readonly #settings: LiveSettings
  readonly #clock: Clock
  readonly #log: Logger
  /** Removes expired records and gives pages back, as far as that is allowed. */
  readonly #purge: () => Promise<void>
  #state: SpaceState = ENOUGH_SPACE
  #figures: EngineFigures | undefined
  /** Of the database when the figures were taken. */
  #contentThen = 0
  #contentLooked = 0
  #looked = Number.NEGATIVE_INFINITY
  #purged = Number.NEGATIVE_INFINITY
  #busy: Promise<void> | undefined
  #copying: Promise<void> | undefined
  #stopped = false

  constructor(database: LocalDatabase, settings: LiveSettings, clock: Clock, log: Logger, purge: () => Promise<void>) {
    this.#database = database
    this.#settings = settings
    this.#clock = clock
    this.#log = log
    this.#purge = purge
  }

  start(): () => Promise<void> {
    this.#database.onNoSpace = error => {
      // our own refusals are not news
      if (!this.#state.active) this.#enter(engineIsFull(error.message, this.#clock.monotonic()))
    }
    const unsubscribe = this.#database.subscribe(() => {
      const added = this.content - this.#contentLooked
      if (added > BETWEEN_BYTES || this.#clock.monotonic() - this.#looked > BETWEEN_COMMITS) this.#judge()
    })
    return async () => {
      this.#stopped = true
      unsubscribe()
      this.#database.onNoSpace = () => {}
      await this.#busy
      await this.#copying
    }
  }

  /** Called now and then with fresh figures. @param content as it was when they were asked for */
  look(figures: EngineFigures, content: number): void {
    this.#figures = figures
    this.#contentThen = content
    this.#consider()
  }

  #consider(): void {
    this.#judge()
    this.#busy ??= this.#work().finally(() => {
      this.#busy = undefined
    })
  }

  #judge(): void {
    this.#looked = this.#clock.monotonic()
    this.#contentLooked = this.content
    const room = this.#room()
    const reserve = shareOf(this.#settings.dynamic.space.reserve, room.size)
    const next = judgeSpace(this.#state, room, { reserve, ballast: this.#missingBallast(room.size) }, this.#looked)
    if (next.active) this.#enter(next)
    else if (this.#state.active) this.#leave()
    // on a small volume the WAL must not take the reserve before its usual size is reached, and on a full one not the room of the next removes
    const bound = !next.active ? reserve / 2 : this.#database.engine === 'SQLite' ? LOG_OF_REMOVES : Infinity
    if (room.log > bound && this.#fits(room)) this.#copyBack()
  }

  #fits({ free, pending }: Room): boolean {
    return pending === 0 || free > pending + this.#checkpointMargin
  }

  get #checkpointMargin(): number {
    if (this.#database.engine !== 'RocksDB') return CHECKPOINT_MARGIN
    return Math.max(MIB, FLUSH_MARGIN * scaleOf(volumeSpace(this.#database.layout.root).size))
  }

  #copyBack(): void {
    this.#copying ??= this.#database
      .session()
      .writer.call('checkpoint', { mode: 'truncate' })
      .then(
        () => {},
        (error: unknown) => this.#log.debug({ err: error }, 'a checkpoint for want of space failed'),
      )
      .finally(() => {
        this.#copying = undefined
      })
  }

  #enter(state: SpaceState): void {
    const entered = !this.#state.active
    this.#state = state
    const message = state.message ?? 'there is no space left'
    this.#database.noSpace = message
    this.#database.board.raise('NoSpace', message, this.#clock.now())
    if (!entered) return
    releaseBallast(this.#database.layout.ballast)
    this.#purged = Number.NEGATIVE_INFINITY
    this.#log.error({ reason: message }, 'no space: writes are refused, removes, expiry and reads go on')
    if (this.#figures) this.#consider()
  }

  #leave(): void {
    this.#state = ENOUGH_SPACE
    this.#database.noSpace = undefined
    this.#database.board.clear('NoSpace')
    this.#log.info('there is space again: writes are taken')
  }

  /** Makes room while there is none; otherwise sees to the ballast. */
  async #work(): Promise<void> {
    try {
      if (this.#state.active) await this.#makeRoom()
      else await this.#ensureBallast()
    } catch (error) {
      if (!this.#stopped) this.#log.warn({ err: error }, 'making room failed')
    }
  }

  /** Each step alone may free what the next one needs, and may itself fail for want of space. */
  async #makeRoom(): Promise<void> {
    await this.#checkpoint()
    const now = this.#clock.monotonic()
    if (now - this.#purged > PURGE_INTERVAL) {
      this.#purged = now
      await this.#purge()
    }
    const { logBytes } = this.#database.state
    if (logBytes > LOG_KEPT) {
      const { writer } = this.#database.session()
      await writer.call('shrinkLog', { bytes: Math.max(0, Number(logBytes) - LOG_STEP) })
      const after = this.#database.state.logBytes
      // the newest group always stays
      if (after < logBytes)
        this.#log.warn(
          { before: Number(logBytes), after: Number(after) },
          'no space: dropped the oldest changes; consumers that still need them begin with a full backup',
        )
    }
    // what was just removed went into the log of the engine, too
    await this.#checkpoint()
  }

  /** Not where it may not fit: one that fails half-way eats the room that the next removes need. */
  async #checkpoint(): Promise<void> {
    const room = this.#room()
    if (room.log > 0 && this.#fits(room)) await this.#database.session().writer.call('checkpoint', { mode: 'truncate' })
  }

  async #ensureBallast(): Promise<void> {
    const { size, free, pending, reusable } = this.#room()
    const bytes = this.#missingBallast(size)
    const reserve = shareOf(this.#settings.dynamic.space.reserve, size)
    if (bytes === 0 || free < bytes * 2 || free - pending + reusable < reserve * 1.25 + bytes) return
    await makeBallast(this.#database.layout.ballast, bytes)
  }

  #missingBallast(size: number): number {
    const bytes = ballastSize(size)
    return hasBallast(this.#database.layout.ballast, bytes) ? 0 : bytes
  }

  /** Bytes of records and change log. */
  get content(): number {
    const { dataBytes, logBytes } = this.#database.state
    return Number(dataBytes + logBytes)
  }

  #room(): Room {
    const space = volumeSpace(this.#database.layout.root)
    const { engine, config } = this.#database
    const { fileBytes = 0, freeBytes = 0 } = this.#figures ?? {}
    const { mapSizeLimit } = config.tuning
    const log = logBytes(engine, this.#database.layout.database)
    // the figures are seconds old: what was added since took free pages first, then new ones
    const added = Math.max(0, this.content - this.#contentThen)
    const growth = () => {
      const { targetBytes } = this.#figures ?? {}
      if (engine !== 'SQLite' || targetBytes === undefined) return log
      const main = fileSize(join(this.#database.layout.database, 'main.db'))
      return Math.min(log, Math.max(0, targetBytes + Math.max(0, added - freeBytes) - main))
    }
    return {
      ...space,
      log,
      pending: growth(),
      // what RocksDB could compact away is no room before it did
      reusable: engine === 'RocksDB' ? 0 : Math.max(0, freeBytes - added),
      ...(mapSizeLimit !== undefined && { below: { limit: mapSizeLimit, used: fileBytes - freeBytes } }),
    }
  }
}

/** Bytes in the engine's logs, which they give back once it is in the database's own files. */
function logBytes(engine: EngineKind, directory: string): number {
  if (engine === 'SQLite') return fileSize(join(directory, 'main.db-wal'))
  if (engine === 'LMDB') return 0
  const tables = join(directory, 'main.rocks')
  return readdirSync(tables)
    .filter(name => name.endsWith('.log'))
    .reduce((sum, name) => sum + fileSize(join(tables, name)), 0)
}

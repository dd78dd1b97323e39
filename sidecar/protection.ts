import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import type { DynamicConfig } from '../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../src/common/clock.ts'
import { BackupBoard } from './backup/board.ts'
import { ContinuousBackup } from './backup/continuous.ts'
import { LastDrill } from './backup/last-drill.ts'
import type { Home } from './backup/layout.ts'
import { snapshotOf } from './backup/snapshot-source.ts'
import { configuredStore, storeUrl } from './backup/store/settings.ts'
import type { LocalDatabase } from './database/local-database.ts'
import type { Repair } from './database/recovery.ts'
import { type BootstrapStatus, seedOf } from './restore/bootstrap.ts'
import type { FillProgress } from './restore/fill.ts'
import { RestoreRunner } from './restore/in-place.ts'
import { listQuarantine, removeQuarantined } from './restore/quarantine.ts'
import { repairOf } from './restore/repair.ts'
import type { AdminServices } from './server/services.ts'
import type { Seed } from './volume/seed.ts'

type BackupConfig = DynamicConfig['backup']

/** How long a start waits for the backup store to say what it has, ms. */
const STORE_PATIENCE = 5000

/** Everything in the engine process that has to do with backups and restores. */
export class Protection {
  readonly services: AdminServices
  readonly board: BackupBoard
  readonly #database: LocalDatabase
  readonly #clock: Clock
  readonly #log: Logger
  readonly #restores: RestoreRunner
  readonly #drills: LastDrill
  #config: BackupConfig
  #continuous: ContinuousBackup | undefined
  #bootstrapping: BootstrapStatus | undefined
  #repairing: FillProgress | undefined
  #serving = false
  /** Changes of the configuration and swaps, one after another. */
  #work: Promise<void> = Promise.resolve()

  constructor(database: LocalDatabase, config: BackupConfig, clock: Clock, log: Logger) {
    this.#database = database
    this.#clock = clock
    this.#log = log
    this.#config = config
    this.#continuous = this.#newContinuous()
    this.#drills = new LastDrill(database.layout)
    this.board = new BackupBoard(
      clock,
      log,
      () => this.#url,
      () => this.#continuous,
      () => this.#config && isSuspended(this.#config),
    )
    this.#restores = new RestoreRunner(database, {
      store: () => this.#config && configuredStore(this.#config),
      clock,
      log,
      flush: async () => {
        await this.#continuous?.flush()
      },
    })
    this.services = this.#makeServices()
    database.onSwap = moment => this.#onSwap(moment)
  }

  /** Members of `/status`. */
  status(): Record<string, unknown> {
    const { lifecycle } = this.#database
    return {
      ...(lifecycle === 'bootstrapping' && this.#bootstrapping && { bootstrap: this.#bootstrapping }),
      ...(lifecycle === 'repairing' && this.#repairing && { repair: this.#repairing }),
      ...(this.#config && { backup: this.board.status }),
      ...(this.#restores.status && { restore: this.#restores.status }),
    }
  }

  register(registry: Registry): void {
    this.board.register(registry)
  }

  /** The first data of a new volume, if the configuration names some. */
  seed(dynamic: DynamicConfig): Seed | undefined {
    return seedOf(dynamic, this.#database.config, this.#clock, status => {
      this.#bootstrapping = status
    })
  }

  /** What to do with damaged files, as the configuration says at that time. */
  get repair(): Repair {
    return repairOf({
      config: () => this.#database.config,
      layout: this.#database.layout,
      store: () => this.#config && configuredStore(this.#config),
      clock: this.#clock,
      log: this.#log,
      progress: progress => {
        this.#repairing = progress
      },
    })
  }

  /** The database is open and nobody writes yet. */
  async settle(): Promise<void> {
    const drill = await this.#drills.read(this.#database.lineage)
    if (drill) this.board.report(drill)
    await this.#continuous?.settle(STORE_PATIENCE)
  }

  /** Writes are taken from now on. */
  async start(): Promise<void> {
    this.#serving = true
    this.#continuous?.start()
    this.#followStore()
  }

  /** The mounted configuration changed. */
  configure(config: BackupConfig): void {
    if (JSON.stringify(config) === JSON.stringify(this.#config)) return
    this.#then(async () => {
      await this.#continuous?.stop()
      this.#config = config
      this.#continuous = this.#newContinuous()
      if (!this.#serving) return
      this.#continuous?.start()
      this.#followStore()
    })
  }

  /** After the last write: ships the rest, at most 10 s. */
  async stop(): Promise<void> {
    await this.#restores.stop()
    await this.#work
    this.#serving = false
    await this.board.stop()
    await this.#continuous?.stop()
  }

  get #url(): string | undefined {
    return this.#config && storeUrl(configuredStore(this.#config))
  }

  get #home(): Home {
    const { config, lineage } = this.#database
    return { namespace: config.namespace, database: config.name, lineage }
  }

  #newContinuous(): ContinuousBackup | undefined {
    if (!this.#config?.continuous.enabled) return undefined
    const { interval, segmentSize } = this.#config.continuous
    return new ContinuousBackup(this.#database, {
      settings: configuredStore(this.#config),
      interval,
      segmentBytes: segmentSize,
      clock: this.#clock,
      log: this.#log,
    })
  }

  /** Only where this process reaches the store: without continuous backup the credentials of a bucket are the jobs' alone. */
  #followStore(): void {
    const config = this.#config
    const reachable = config && (config.continuous.enabled || config.destination.volume)
    this.board.follow(reachable ? configuredStore(config) : undefined, () => this.#home)
  }

  #onSwap(moment: 'before' | 'after'): void {
    if (moment === 'before') this.#continuous?.pause()
    else
      this.#then(async () => {
        if (this.#serving) await this.#continuous?.resume()
      })
  }

  #then(work: () => Promise<void>): void {
    this.#work = this.#work
      .then(work)
      .catch((error: unknown) => this.#log.error({ err: error }, 'backups could not be set up anew'))
  }

  #makeServices(): AdminServices {
    const protection = this
    const database = this.#database
    return {
      get namespace() {
        return database.config.namespace
      },
      get name() {
        return database.config.name
      },
      get store() {
        return protection.#url
      },
      get encryption() {
        return protection.#config?.encryption
      },
      snapshot: signal => snapshotOf(database, signal),
      slice: (range, bytes, signal) => database.slice(range, bytes, signal),
      consumers: () => database.consumers(),
      setConsumer: (consumer, position, lease) => database.registerConsumer(consumer, position, lease),
      removeConsumer: consumer => database.removeConsumer(consumer),
      report: async document => {
        this.board.report(document)
        if (document.kind !== 'drill') return
        await this.#drills
          .write(database.lineage, document)
          .catch((error: unknown) =>
            this.#log.warn({ err: error }, 'the result of the drill is lost at the next start'),
          )
      },
      restore: request => this.#restores.run(request),
      cancelRestore: () => this.#restores.cancel(),
      get restoreStatus() {
        return protection.#restores.status
      },
      quarantine: () => listQuarantine(database.layout),
      removeQuarantine: async entry => {
        await removeQuarantined(database.layout, entry)
        await database.refreshRecovery()
      },
    }
  }
}

/** Nothing runs by schedule, though something is set to. */
function isSuspended({ suspend, schedules }: NonNullable<BackupConfig>): boolean {
  return suspend || (schedules.length > 0 && schedules.every(schedule => schedule.suspend))
}

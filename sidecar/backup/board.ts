import type { Logger } from 'pino'
import { Gauge, type Registry } from 'prom-client'
import type { Clock } from '../../src/common/clock.ts'
import { type LineageCatalog, readLineage, since } from './catalog.ts'
import { recoveryWindow } from './chain.ts'
import type { ContinuousBackup, ContinuousStatus } from './continuous.ts'
import type { Home } from './layout.ts'
import { openStore, type StoreSettings } from './store/settings.ts'

/** One line about a backup, in `/status`. */
export interface BackupLine {
  readonly name: string
  readonly type?: string
  readonly schedule?: string
  readonly position?: string
  readonly completedAt?: string
  readonly verifiedAt?: string
  readonly verification?: string
  readonly records?: number
  readonly storedBytes?: number
  /** Its snapshot was cut, so it was read in so many key slices. */
  readonly slices?: number
  readonly seconds?: number
  readonly error?: string
  readonly code?: string
}

/** Member `backup` of `/status`. */
export interface BackupStatus {
  readonly store?: string
  /** When the store was last read, and with what success. */
  readonly catalog?: {
    readonly time: string
    readonly backups: number
    readonly segments: number
    readonly error?: string
  }
  readonly lastSuccessful?: BackupLine
  readonly lastVerified?: BackupLine
  readonly lastFailed?: BackupLine
  readonly recoveryWindow?: { readonly from: string; readonly fromPosition: string; readonly toPosition: string }
  readonly drill?: Readonly<Record<string, unknown>>
  readonly continuous?: ContinuousStatus
  readonly failures: number
}

/** How often the store is read, and how soon again where that failed, ms. */
const CATALOG_INTERVAL = 10 * 60_000
const CATALOG_RETRY = 60_000

/** What is known of the backups: jobs tell how they ended, and the store is read now and then where this process can reach it. */
export class BackupBoard {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #url: () => string | undefined
  readonly #continuous: () => ContinuousBackup | undefined
  readonly #suspended: () => boolean | undefined
  #successful: BackupLine | undefined
  #verified: BackupLine | undefined
  #failed: BackupLine | undefined
  #drill: Readonly<Record<string, unknown>> | undefined
  #catalog: BackupStatus['catalog']
  #window: BackupStatus['recoveryWindow']
  #failures = 0
  #reading: Promise<void> = Promise.resolve()
  #following = new AbortController()
  /** The store has something new. */
  #news = new AbortController()

  constructor(
    clock: Clock,
    log: Logger,
    url: () => string | undefined,
    continuous: () => ContinuousBackup | undefined,
    suspended: () => boolean | undefined = () => undefined,
  ) {
    this.#clock = clock
    this.#log = log
    this.#url = url
    this.#continuous = continuous
    this.#suspended = suspended
  }

  /** A job ended. What it tells is checked loosely: it is for display. */
  report(document: Readonly<Record<string, unknown>>): void {
    if (document.kind === 'drill') {
      this.#drill = document
      return
    }
    const { startedAt, completedAt } = document as { startedAt?: string; completedAt?: string }
    const ended = (document.verifiedAt ?? completedAt) as string | undefined
    const seconds = startedAt && ended ? (Date.parse(ended) - Date.parse(startedAt)) / 1000 : undefined
    const line: BackupLine = { ...lineOf(document), ...(seconds !== undefined && { seconds }) }
    if (document.phase === 'Completed') {
      this.#successful = line
      if (line.verification === 'Verified') this.#verified = line
      if (line.type === 'Full') this.#continuous()?.noteFull()
      // a Full opens the recovery window, and what reached the store ends what was said of it
      if (line.type === 'Full' || this.#catalog?.error !== undefined) this.#news.abort()
    } else {
      this.#failed = { ...line, completedAt: line.completedAt ?? new Date(this.#clock.now()).toISOString() }
      this.#failures++
    }
  }

  get status(): BackupStatus {
    const continuous = this.#continuous()?.status
    const url = this.#url()
    return {
      ...(url !== undefined && { store: url }),
      ...(this.#catalog && { catalog: this.#catalog }),
      ...(this.#successful && { lastSuccessful: this.#successful }),
      ...(this.#verified && { lastVerified: this.#verified }),
      ...(this.#failed && { lastFailed: this.#failed }),
      ...(this.#window && { recoveryWindow: this.#window }),
      ...(this.#drill && { drill: this.#drill }),
      ...(continuous && { continuous }),
      failures: this.#failures,
    }
  }

  /** Reads the store now, every ten minutes, and when it has something new; undefined: no longer. */
  follow(settings: StoreSettings | undefined, home: () => Home): void {
    this.#following.abort()
    if (!settings) return
    this.#following = new AbortController()
    const { signal } = this.#following
    const loop = async () => {
      while (!signal.aborted) {
        this.#news = new AbortController()
        const next = AbortSignal.any([signal, this.#news.signal])
        await this.#read(settings, home(), signal)
        const wait = this.#catalog?.error === undefined ? CATALOG_INTERVAL : CATALOG_RETRY
        await this.#clock.sleep(wait, next).catch(() => {})
      }
    }
    this.#reading = loop()
  }

  async stop(): Promise<void> {
    this.#following.abort()
    await this.#reading
  }

  /** The metrics `kvidx_backup_*`; what is not known has no sample. */
  register(registry: Registry): void {
    const gauge = (name: string, help: string, read: (status: BackupStatus) => number | undefined) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect: function (this: Gauge) {
          const value = read(status())
          this.reset()
          if (value !== undefined) this.set(value)
          else this.remove()
        },
      })
    const status = () => this.status
    const seconds = (time: string | undefined) => (time === undefined ? undefined : Date.parse(time) / 1000)
    gauge('kvidx_backup_last_success_timestamp_seconds', 'End of the newest successful backup', now =>
      seconds(now.lastSuccessful?.completedAt),
    )
    gauge('kvidx_backup_last_verified_timestamp_seconds', 'End of the newest verification that held', now =>
      seconds(now.lastVerified?.verifiedAt),
    )
    gauge(
      'kvidx_backup_last_duration_seconds',
      'Duration of the newest successful backup',
      now => now.lastSuccessful?.seconds,
    )
    gauge(
      'kvidx_backup_last_stored_bytes',
      'Size of the newest successful backup in the store',
      now => now.lastSuccessful?.storedBytes,
    )
    gauge('kvidx_backup_failures', 'Backups that failed since the process began', now => now.failures)
    gauge('kvidx_backup_suspended', '1 while all schedules of backups are suspended', () => {
      const suspended = this.#suspended()
      return suspended === undefined ? undefined : Number(suspended)
    })
    gauge(
      'kvidx_backup_rpo_seconds',
      'Age of the oldest acknowledged write that is not in the store',
      now => now.continuous && now.continuous.rpoMs / 1000,
    )
    gauge(
      'kvidx_backup_backlog_changes',
      'Acknowledged changes that are not in the store',
      now => now.continuous?.backlogChanges,
    )
    gauge('kvidx_backup_segments_shipped', 'Segments shipped since the process began', now => now.continuous?.segments)
    gauge(
      'kvidx_backup_segment_bytes_shipped',
      'Bytes of changes shipped since the process began',
      now => now.continuous?.bytes,
    )
    gauge('kvidx_backup_continuous_failing', '1 while changes cannot be shipped', now => {
      if (!now.continuous) return undefined
      return now.continuous.state === 'Failing' || now.continuous.state === 'HistoryConflict' ? 1 : 0
    })
    gauge('kvidx_backup_drill_failed', '1 when the last restore drill failed', now =>
      now.drill ? Number(now.drill.phase !== 'Completed') : undefined,
    )
    gauge('kvidx_backup_drill_rto_seconds', 'Duration of the last restore drill', now => {
      const rto = now.drill?.rtoMs
      return typeof rto === 'number' ? rto / 1000 : undefined
    })
  }

  async #read(settings: StoreSettings, home: Home, signal: AbortSignal): Promise<void> {
    const time = new Date(this.#clock.now()).toISOString()
    try {
      const { store } = await openStore(settings, this.#clock)
      try {
        const catalog = await readLineage(store, home, signal)
        this.#catalog = { time, backups: catalog.backups.length, segments: catalog.segments.length }
        this.#learn(catalog)
      } finally {
        await store.close()
      }
    } catch (thrown) {
      if (signal.aborted) return
      const error = thrown instanceof Error ? thrown.message : String(thrown)
      const known = this.#catalog?.error === error
      this.#catalog = { time, backups: 0, segments: 0, ...this.#catalog, error }
      if (!known) this.#log.warn({ err: thrown }, 'the backup store cannot be read')
    }
  }

  #learn(catalog: LineageCatalog): void {
    const newest = catalog.backups.at(-1)
    if (newest && (this.#successful?.completedAt ?? '') < newest.manifest.completedAt)
      this.#successful = lineOf({ ...newest.manifest, type: newest.kind, storedBytes: newest.storedBytes })
    const verified = catalog.backups.findLast(backup => backup.verified)
    if (verified?.verification && (this.#verified?.verifiedAt ?? '') < verified.verification.completedAt)
      this.#verified = lineOf({
        ...verified.manifest,
        type: verified.kind,
        storedBytes: verified.storedBytes,
        verification: 'Verified',
        verifiedAt: verified.verification.completedAt,
      })
    const window = recoveryWindow(catalog)
    this.#window = window && {
      from: new Date(Number(since(window.from))).toISOString(),
      fromPosition: window.from.manifest.position,
      toPosition: String(window.reached),
    }
  }
}

function lineOf(document: Readonly<Record<string, unknown>>): BackupLine {
  const text = (name: string) => (typeof document[name] === 'string' ? { [name]: document[name].slice(0, 1000) } : {})
  const number = (name: string) => (typeof document[name] === 'number' ? { [name]: document[name] } : {})
  const count = document.records ?? (typeof document.count === 'string' ? Number(document.count) : undefined)
  return {
    name: String(document.name ?? ''),
    ...['type', 'schedule', 'position', 'completedAt', 'verifiedAt', 'verification', 'error', 'code'].reduce(
      (all, name) => Object.assign(all, text(name)),
      {},
    ),
    ...number('storedBytes'),
    ...number('slices'),
    ...(typeof count === 'number' && { records: count }),
  }
}

import { type Clock, systemClock } from '../common/clock.ts'
import type { KubeApi } from './api.ts'
import { isAlreadyExists, isConflict, isNotFound } from './api-error.ts'
import type { Random } from './backoff.ts'
import { linkedAbort } from './linked-abort.ts'
import { type RuntimeLog, silentLog } from './log.ts'
import { KubeMetrics } from './metrics.ts'
import { microTime } from './micro-time.ts'
import type { KubeObject } from './object.ts'
import { LEASES } from './resources.ts'

interface LeaseSpec {
  readonly holderIdentity?: string
  readonly leaseDurationSeconds?: number
  readonly acquireTime?: string
  readonly renewTime?: string
  readonly leaseTransitions?: number
}

interface Lease extends KubeObject {
  readonly spec?: LeaseSpec
}

export interface LeaderElectorOptions {
  readonly api: KubeApi
  readonly namespace: string
  /** Name of the Lease. */
  readonly name: string
  /** Unique among the candidates, also between two lives of one pod: `<pod>_<random>`. */
  readonly identity: string
  /** Others wait so long after the last renewal that they saw, ms. Default 15 s; whole seconds. */
  readonly leaseDuration?: number
  /** A leader that could not renew for so long gives up, ms. Default 10 s; must be shorter than leaseDuration. */
  readonly renewDeadline?: number
  /** Between two tries, ms. Default 2 s. */
  readonly retryPeriod?: number
  /** Called once, when this candidate becomes the leader. Must not throw. */
  readonly onAcquired?: () => void
  /** Called once, when the leadership is lost and not given back. Work must end at once: the process is expected to exit. */
  readonly onLost: (reason: Error) => void
  /** Called when another holder is seen. */
  readonly onNewLeader?: (identity: string) => void
  readonly clock?: Clock
  readonly random?: Random
  readonly metrics?: KubeMetrics
  readonly log?: RuntimeLog
}

/**
 * Election by a Lease. The clocks of the candidates need not agree: the times in the Lease are for people, and a candidate waits for a
 * full lease duration of its own monotonic time during which the Lease did not change.
 *
 * The leader counts its own time from the moment it sent its last successful renewal, which is before anybody else can have seen it. So
 * it gives up (renewDeadline) before another one takes over (leaseDuration).
 */
export class LeaderElector {
  readonly #options: LeaderElectorOptions
  readonly #leaseDuration: number
  readonly #renewDeadline: number
  readonly #retryPeriod: number
  readonly #clock: Clock
  readonly #random: Random
  readonly #metrics: KubeMetrics
  readonly #log: RuntimeLog
  readonly #abort = new AbortController()
  readonly #acquired = Promise.withResolvers<void>()
  #running: Promise<void> | undefined
  /** The Lease as last read or written, and when it was first seen like that (monotonic ms). */
  #lease: Lease | undefined
  #seenAt = 0
  #holder: string | undefined
  /** When the last successful renewal was sent (monotonic ms); undefined: not the leader. */
  #renewedAt: number | undefined

  /** Throws RangeError when the three times do not fit together. */
  constructor(options: LeaderElectorOptions) {
    this.#options = options
    this.#leaseDuration = options.leaseDuration ?? 15_000
    this.#renewDeadline = options.renewDeadline ?? 10_000
    this.#retryPeriod = options.retryPeriod ?? 2_000
    if (this.#leaseDuration <= this.#renewDeadline) {
      throw new RangeError(
        `leaseDuration ${this.#leaseDuration} ms must be longer than renewDeadline ${this.#renewDeadline} ms`,
      )
    }
    if (this.#renewDeadline <= this.#retryPeriod * 1.2) {
      throw new RangeError(
        `renewDeadline ${this.#renewDeadline} ms must be longer than 1.2 × retryPeriod ${this.#retryPeriod} ms`,
      )
    }
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#metrics = options.metrics ?? new KubeMetrics()
    this.#log = options.log ?? silentLog
    this.#metrics.leader.set({ name: options.name }, 0)
  }

  /** Whether this candidate is the leader now: false as soon as its last renewal is too old, even if it had no chance to notice yet. */
  get isLeader(): boolean {
    return this.#renewedAt !== undefined && this.#clock.monotonic() - this.#renewedAt < this.#renewDeadline
  }

  /** Who held the Lease when it was last seen. */
  get holder(): string | undefined {
    return this.#holder
  }

  /** Resolves when this candidate becomes the leader. Never rejects. */
  get acquired(): Promise<void> {
    return this.#acquired.promise
  }

  /** Begins to try. Further calls change nothing. */
  start(): void {
    this.#running ??= this.#run(this.#abort.signal)
  }

  /**
   * Stops trying, and gives the Lease back if it is held, so that another candidate takes over at once. Call it after the work that needs
   * the leadership has ended.
   */
  async stop(): Promise<void> {
    this.#abort.abort(new Error('leader election was stopped'))
    await this.#running
    const led = this.isLeader
    // first: another one can lead before the answer to the release is here
    this.#renewedAt = undefined
    this.#metrics.leader.set({ name: this.#options.name }, 0)
    if (led) await this.#release()
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !(await this.#try(signal, this.#renewDeadline))) {
      // jitter, so that candidates that started together do not collide each time
      await this.#pause(this.#retryPeriod * (1 + 0.2 * this.#random()), signal)
    }
    if (signal.aborted) return
    this.#log.info({ lease: this.#options.name, identity: this.#options.identity }, 'became the leader')
    this.#metrics.leader.set({ name: this.#options.name }, 1)
    this.#acquired.resolve()
    this.#options.onAcquired?.()
    while (!signal.aborted) {
      await this.#pause(Math.min(this.#retryPeriod, Math.max(0, this.#left())), signal)
      if (signal.aborted) return
      const left = this.#left()
      // `left` can be far below 0 after the machine slept
      if (left > 0 && (await this.#try(signal, left))) continue
      if (signal.aborted) return
      if (this.#left() <= 0 || this.#holder !== this.#options.identity) {
        this.#lose()
        return
      }
    }
  }

  #left(): number {
    return (this.#renewedAt ?? Number.NEGATIVE_INFINITY) + this.#renewDeadline - this.#clock.monotonic()
  }

  #lose(): void {
    this.#renewedAt = undefined
    this.#metrics.leader.set({ name: this.#options.name }, 0)
    const { name, identity } = this.#options
    const reason = new Error(
      this.#holder === identity
        ? `the lease ${name} could not be renewed for ${this.#renewDeadline} ms`
        : `the lease ${name} is held by ${this.#holder ?? 'nobody'} now`,
    )
    this.#log.error({ lease: name, identity, err: reason }, 'lost the leadership')
    this.#options.onLost(reason)
  }

  /** One try to get or renew the Lease, within `ms`. */
  async #try(signal: AbortSignal, ms: number): Promise<boolean> {
    using abort = linkedAbort(this.#clock, signal)
    abort.after(ms, () => new Error(`no answer within ${ms} ms`))
    const sentAt = this.#clock.monotonic()
    try {
      // a holder knows the Lease: one request a renewal. Whoever changed it meanwhile causes a conflict.
      if (this.#renewedAt === undefined || this.#lease === undefined) await this.#read(abort.signal)
      if (!this.#mayTake()) return false
      await this.#write(abort.signal)
      this.#renewedAt = sentAt
      return true
    } catch (error) {
      if (signal.aborted) return false
      // what was written by a request without an answer is not known: read before the next write
      if (isConflict(error) || isNotFound(error) || isAlreadyExists(error)) await this.#reread(abort.signal)
      this.#log.warn({ lease: this.#options.name, err: error }, 'the lease could not be read or written')
      return false
    }
  }

  async #reread(signal: AbortSignal): Promise<void> {
    await this.#read(signal).catch((error: unknown) => {
      this.#log.warn({ lease: this.#options.name, err: error }, 'the lease could not be read')
    })
  }

  async #read(signal: AbortSignal): Promise<void> {
    const { api, namespace, name } = this.#options
    try {
      this.#see(await api.get<Lease>(LEASES, { namespace, name }, { signal }))
    } catch (error) {
      if (!isNotFound(error)) throw error
      this.#lease = undefined
      this.#holder = undefined
    }
  }

  #see(lease: Lease): void {
    if (lease.metadata.resourceVersion !== this.#lease?.metadata.resourceVersion) this.#seenAt = this.#clock.monotonic()
    this.#lease = lease
    const holder = lease.spec?.holderIdentity || undefined
    if (holder !== this.#holder && holder !== undefined) this.#options.onNewLeader?.(holder)
    this.#holder = holder
  }

  #mayTake(): boolean {
    if (this.#holder === undefined || this.#holder === this.#options.identity) return true
    if (this.#renewedAt !== undefined) return false
    // the holder's own word counts: it may run with longer times than ours
    const duration = Math.max(this.#leaseDuration, (this.#lease?.spec?.leaseDurationSeconds ?? 0) * 1000)
    return this.#clock.monotonic() - this.#seenAt >= duration
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { api, namespace, name, identity } = this.#options
    const now = microTime(this.#clock.now())
    const old = this.#lease?.spec
    const mine = old?.holderIdentity === identity
    const spec: LeaseSpec = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(this.#leaseDuration / 1000),
      acquireTime: mine ? (old.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (old?.leaseTransitions ?? 0) + (old === undefined || mine ? 0 : 1),
    }
    if (this.#lease === undefined) {
      const lease: Lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { namespace, name }, spec }
      this.#see(await api.create<Lease>(LEASES, lease, { signal }))
    } else {
      this.#see(await api.update<Lease>(LEASES, { ...this.#lease, spec }, { signal }))
    }
  }

  async #release(): Promise<void> {
    const { name, identity } = this.#options
    try {
      // a renewal that the stop cut off may have arrived: then the first try meets a conflict
      await this.#giveBack().catch(async (error: unknown) => {
        if (!isConflict(error)) throw error
        await this.#read(AbortSignal.timeout(this.#retryPeriod))
        await this.#giveBack()
      })
      this.#log.info({ lease: name, identity }, 'gave the leadership back')
    } catch (error) {
      this.#log.warn({ lease: name, err: error }, 'the lease could not be given back: others wait until it ends')
    }
  }

  async #giveBack(): Promise<void> {
    if (this.#lease?.spec?.holderIdentity !== this.#options.identity) return
    const now = microTime(this.#clock.now())
    const lease: Lease = {
      ...this.#lease,
      spec: { ...this.#lease.spec, holderIdentity: '', leaseDurationSeconds: 1, acquireTime: now, renewTime: now },
    }
    await this.#options.api.update<Lease>(LEASES, lease, { timeout: this.#retryPeriod })
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    await this.#clock.sleep(ms, signal).catch(() => {})
  }
}

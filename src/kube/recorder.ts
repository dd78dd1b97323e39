import { type Clock, systemClock, type Timer } from '../common/clock.ts'
import type { KubeApi } from './api.ts'
import { isAlreadyExists, KubeApiError, undefinedIfMissing } from './api-error.ts'
import { type RuntimeLog, silentLog } from './log.ts'
import { KubeMetrics } from './metrics.ts'
import { microTime } from './micro-time.ts'
import { type KubeObject, keyOf } from './object.ts'
import { EVENTS } from './resources.ts'

export interface EventInput {
  readonly type: 'Normal' | 'Warning'
  /** UpperCamelCase, at most 128 characters: why. */
  readonly reason: string
  /** UpperCamelCase, at most 128 characters: what was done or tried. */
  readonly action: string
  /** For people; cut after 1024 bytes. */
  readonly note: string
}

export interface EventRecorderOptions {
  readonly api: KubeApi
  /** Such as `kvidx.io/operator`. */
  readonly controller: string
  /** This process: the pod's name. At most 128 characters. */
  readonly instance: string
  readonly clock?: Clock
  readonly metrics?: KubeMetrics
  readonly log?: RuntimeLog
}

/** While events are remembered, they are looked through so often, ms. */
const TICK = 10_000
/** A further count of a series is written at most so often, ms; the first one with the next tick. */
const NEXT_COUNT = 300_000
/** A series ends when nothing was added for so long, ms: the next occurrence is a new event. */
const SERIES_END = 360_000
/** Different events about one object: so many at once, then one more per refill, ms. */
const BURST = 25
const REFILL = 60_000
/** What is remembered; beyond it, events are dropped. Also bounds what waits to be written. */
const MAX_SERIES = 5000
const ATTEMPTS = 3
const RETRY_PAUSE = 1000
const MAX_NOTE_BYTES = 1024

interface Series {
  readonly object: KubeObject
  readonly input: EventInput
  readonly name: string
  /** Unix ms */
  readonly first: number
  last: number
  count: number
  /** The count in the API server; 0: not written yet. */
  written: number
  writtenAt: number
}

interface Budget {
  tokens: number
  /** Unix ms of the last refill. */
  at: number
}

/**
 * Writes Kubernetes events (events.k8s.io/v1). The same event about the same object becomes one series with a count; an object that is
 * talked about too much gets no further events for a while. `record` never waits and never throws: an event is a courtesy.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions
  readonly #clock: Clock
  readonly #metrics: KubeMetrics
  readonly #log: RuntimeLog
  readonly #series = new Map<string, Series>()
  readonly #budgets = new Map<string, Budget>()
  readonly #waiting = new Set<Series>()
  readonly #abort = new AbortController()
  #timer: Timer | undefined
  #writing: Promise<void> | undefined
  #stopped = false

  constructor(options: EventRecorderOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#metrics = options.metrics ?? new KubeMetrics()
    this.#log = options.log ?? silentLog
  }

  /** Tells people about an object. */
  record(object: KubeObject, input: EventInput): void {
    if (this.#stopped) return
    const now = this.#clock.now()
    const about = `${object.kind} ${object.metadata.uid ?? keyOf(object.metadata)}`
    const key = [about, input.type, input.reason, input.action, input.note].join('\n')
    const known = this.#series.get(key)
    if (known !== undefined) {
      known.count++
      known.last = now
      return
    }
    if (this.#series.size >= MAX_SERIES || !this.#spend(about, now)) {
      this.#metrics.events.inc({ outcome: 'dropped' })
      return
    }
    const name = eventName(object.metadata.name, now)
    const series = { object, input, name, first: now, last: now, count: 1, written: 0, writtenAt: now }
    this.#series.set(key, series)
    this.#write(series)
    this.#timer ??= this.#clock.setTimer(TICK, () => this.#tick())
  }

  /** Writes what is not written yet, for at most `grace` ms (default 2 s), then stops. */
  async stop(grace = 2_000): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    for (const series of this.#series.values()) if (series.count > series.written) this.#write(series)
    const timer = this.#clock.setTimer(grace, () => this.#abort.abort(new Error('the event recorder was stopped')))
    await this.#writing
    timer.cancel()
  }

  #tick(): void {
    const now = this.#clock.now()
    for (const [key, series] of this.#series) {
      const over = now - series.last >= SERIES_END
      const due = over || series.written <= 1 || now - series.writtenAt >= NEXT_COUNT
      if (series.count > series.written && due) this.#write(series)
      if (over) this.#series.delete(key)
    }
    for (const [about, budget] of this.#budgets) if (refilled(budget, now) >= BURST) this.#budgets.delete(about)
    const more = this.#series.size > 0 || this.#budgets.size > 0
    this.#timer = more ? this.#clock.setTimer(TICK, () => this.#tick()) : undefined
  }

  #spend(about: string, now: number): boolean {
    const budget = this.#budgets.get(about) ?? { tokens: BURST, at: now }
    const tokens = refilled(budget, now)
    if (tokens < 1) return false
    this.#budgets.set(about, { tokens: tokens - 1, at: now })
    return true
  }

  #write(series: Series): void {
    this.#waiting.add(series)
    this.#writing ??= this.#drain()
  }

  /** One after the other: events must not crowd out the requests that matter. */
  async #drain(): Promise<void> {
    for (const series of this.#waiting) {
      this.#waiting.delete(series)
      // it was added a second time while its first event was on the way
      if (series.count <= series.written) continue
      const outcome = await this.#send(series)
      this.#metrics.events.inc({ outcome })
    }
    // in the same breath as the end of the loop: what is added from now on starts a new one
    this.#writing = undefined
  }

  async #send(series: Series): Promise<'written' | 'failed'> {
    const { signal } = this.#abort
    for (let attempt = 1; !signal.aborted; attempt++) {
      const { count } = series
      try {
        await this.#put(series, signal)
        series.written = count
        series.writtenAt = this.#clock.now()
        return 'written'
      } catch (error) {
        // an earlier attempt whose answer was lost
        if (isAlreadyExists(error) && attempt > 1) {
          series.written = Math.max(1, series.written)
          return 'written'
        }
        const final = error instanceof KubeApiError && error.status >= 400 && error.status < 500 && error.status !== 429
        if (final || attempt === ATTEMPTS || signal.aborted) {
          // given up; a repeat would find nothing to patch and create it anew
          series.written = count
          series.writtenAt = this.#clock.now()
          this.#log.debug(
            { reason: series.input.reason, about: keyOf(series.object.metadata), err: error },
            'an event was not written',
          )
          return 'failed'
        }
        await this.#clock.sleep(RETRY_PAUSE * attempt, signal).catch(() => {})
      }
    }
    return 'failed'
  }

  async #put(series: Series, signal: AbortSignal): Promise<void> {
    const { api } = this.#options
    const namespace = series.object.metadata.namespace ?? 'default'
    if (series.written > 0) {
      const patch = { series: seriesOf(series) }
      const found = await undefinedIfMissing(api.patch(EVENTS, { namespace, name: series.name }, patch, { signal }))
      if (found !== undefined) return
      // events live for an hour: begin again
    }
    await api.create(EVENTS, this.#event(series, namespace), { signal })
  }

  #event(series: Series, namespace: string): KubeObject {
    const { object, input } = series
    const { metadata } = object
    const event = {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { namespace, name: series.name },
      eventTime: microTime(series.first),
      reportingController: this.#options.controller,
      reportingInstance: this.#options.instance.slice(0, 128),
      type: input.type,
      reason: input.reason,
      action: input.action,
      note: cut(input.note, MAX_NOTE_BYTES),
      regarding: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        resourceVersion: metadata.resourceVersion,
      },
      ...(series.count > 1 ? { series: seriesOf(series) } : {}),
    }
    return event
  }
}

function seriesOf(series: Series): { count: number; lastObservedTime: string } {
  return { count: series.count, lastObservedTime: microTime(series.last) }
}

function refilled(budget: Budget, now: number): number {
  // the wall clock may go back
  return Math.min(BURST, budget.tokens + Math.max(0, now - budget.at) / REFILL)
}

/** Unique, and a DNS name: `orders.19b4c5d6e7f.3a5f0c12`. */
function eventName(about: string, now: number): string {
  const random = Math.floor(Math.random() * 2 ** 32).toString(16)
  return `${about.slice(0, 200).replace(/[-.]+$/, '')}.${now.toString(16)}.${random}`
}

/** At most so many bytes of UTF-8, without half a character at the end. */
function cut(text: string, bytes: number): string {
  const encoded = Buffer.from(text)
  if (encoded.length <= bytes) return text
  const ellipsis = '…'
  return (
    encoded
      .subarray(0, bytes - Buffer.byteLength(ellipsis))
      .toString('utf8')
      .replace(/\uFFFD+$/, '') + ellipsis
  )
}

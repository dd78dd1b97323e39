import { Gauge, Registry } from 'prom-client'
import { registerProcessMetrics } from '../../src/common/process-metrics.ts'
import type { Database } from '../database/database.ts'
import type { EngineFigures } from '../engine/engine.ts'
import type { CertificateValidity } from './certificate-validity.ts'

/** How an exchange ended: 2xx and 3xx, 4xx, 5xx, or without anybody to answer to. */
export type Outcome = 'ok' | 'rejected' | 'failed' | 'aborted'

/** Seconds. */
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

class Histogram {
  readonly counts = new Float64Array(BUCKETS.length + 1)
  sum = 0

  observe(seconds: number): void {
    let bucket = 0
    while (bucket < BUCKETS.length && seconds > (BUCKETS[bucket] as number)) bucket++
    this.counts[bucket] = (this.counts[bucket] as number) + 1
    this.sum += seconds
  }
}

/** What the metrics say of the engine's files; refreshed beside the scrape, because reading them may take time. */
export interface FiguresSource {
  readonly figures: EngineFigures | undefined
}

/**
 * Metrics of one process. Operations are counted in plain arrays, which costs a tenth of prom-client's own labelled histogram
 * on the way of every request, and are turned into samples when they are scraped.
 */
export class ServerMetrics {
  readonly registry = new Registry()
  /** What the data port serves with; undefined: without TLS, or not yet. */
  certificate: CertificateValidity | undefined
  readonly #operations = new Map<string, Map<Outcome, Histogram>>()
  readonly #errors = new Map<string, number>()

  constructor() {
    this.registry.registerMetric({
      name: 'kvidx_operation_duration_seconds',
      help: 'Time from the head of a request to its answer, by operation and outcome',
      type: 'histogram',
      get: async () => this.#operationMetric(),
    } as never)
    this.registry.registerMetric({
      name: 'kvidx_errors_total',
      help: 'Problem documents given, by code',
      type: 'counter',
      get: async () => this.#errorMetric(),
    } as never)
  }

  /** @param milliseconds how long it took */
  operation(name: string, outcome: Outcome, milliseconds: number): void {
    let outcomes = this.#operations.get(name)
    if (!outcomes) {
      outcomes = new Map()
      this.#operations.set(name, outcomes)
    }
    let histogram = outcomes.get(outcome)
    if (!histogram) {
      histogram = new Histogram()
      outcomes.set(outcome, histogram)
    }
    histogram.observe(milliseconds / 1000)
  }

  error(code: string): void {
    this.#errors.set(code, (this.#errors.get(code) ?? 0) + 1)
  }

  /**
   * Adds what is known of the database: the guide's names. `database` is asked at each scrape; undefined: not open yet.
   * @param unserved why clients cannot be served although it may be open
   */
  observe(database: () => Database | undefined, source: FiguresSource, unserved?: () => string | undefined): void {
    // prom-client's own gauge shows 0 for what is not known
    const gauge = (name: string, help: string, read: (database: Database) => number | undefined): void =>
      this.registry.registerMetric({
        name,
        help,
        type: 'gauge',
        get: async () => {
          const open = database()
          const value = open && read(open)
          return {
            name,
            help,
            type: 'gauge',
            values: value === undefined ? [] : [{ value, labels: {} }],
            aggregator: 'sum',
          }
        },
      } as never)
    // until the database is open its counters are not known, and 0 would be a false alarm
    const state = (read: (state: Database['state']) => bigint) => (open: Database) =>
      open.ready ? Number(read(open.state)) : undefined
    gauge(
      'kvidx_keys',
      'Stored records',
      state(now => now.count),
    )
    gauge(
      'kvidx_data_bytes',
      'Sum of the data lengths of the stored records',
      state(now => now.dataBytes),
    )
    gauge(
      'kvidx_expiring_keys',
      'Stored records with an expiry',
      state(now => now.expiring),
    )
    gauge(
      'kvidx_change_log_bytes',
      'Bytes of the change log',
      state(now => now.logBytes),
    )
    gauge(
      'kvidx_position_epoch',
      'Epoch of the last commit',
      state(now => now.position.epoch),
    )
    gauge(
      'kvidx_position_seq',
      'Sequence number of the last change',
      state(now => now.position.seq),
    )
    gauge('kvidx_last_commit_timestamp_seconds', 'Time of the last commit', open =>
      open.ready ? Number(open.state.time) / 1000 : undefined,
    )
    gauge('kvidx_db_file_bytes', 'All files of the database', () => source.figures?.fileBytes)
    gauge('kvidx_wal_bytes', 'Write-ahead log', () => source.figures?.walBytes)
    gauge('kvidx_free_bytes', 'Bytes that the engine can reuse before its files grow', () => source.figures?.freeBytes)
    gauge('kvidx_fragmentation_ratio', 'Free pages to all pages, 0 to 1', () => source.figures?.fragmentation)
    gauge('kvidx_ready', '1 when this process can serve its role', open =>
      open.ready && unserved?.() === undefined ? 1 : 0,
    )
    const seconds = (ms: number | undefined) => (ms === undefined ? undefined : ms / 1000)
    gauge(
      'kvidx_tls_certificate_not_before_timestamp_seconds',
      'From when on the TLS certificate of the data port is valid',
      () => seconds(this.certificate?.notBefore),
    )
    gauge(
      'kvidx_tls_certificate_not_after_timestamp_seconds',
      'When the TLS certificate of the data port expires',
      () => seconds(this.certificate?.notAfter),
    )
    new Gauge({
      name: 'kvidx_health_state',
      help: '1 for the state that holds',
      labelNames: ['state'],
      registers: [this.registry],
      collect() {
        const now = database()?.health.state
        for (const name of ['OK', 'DEGRADED', 'UNHEALTHY']) this.set({ state: name }, name === now ? 1 : 0)
      },
    })
    new Gauge({
      name: 'kvidx_task_last_run_timestamp_seconds',
      help: 'When a task last began',
      labelNames: ['task'],
      registers: [this.registry],
      collect() {
        for (const task of database()?.tasks ?? []) if (task.lastRun) this.set({ task: task.name }, task.lastRun / 1000)
      },
    })
    new Gauge({
      name: 'kvidx_task_next_run_timestamp_seconds',
      help: 'When a task runs next by schedule',
      labelNames: ['task'],
      registers: [this.registry],
      collect() {
        // a schedule may have been taken away
        this.reset()
        for (const { name, nextRun } of database()?.tasks ?? []) if (nextRun) this.set({ task: name }, nextRun / 1000)
      },
    })
    new Gauge({
      name: 'kvidx_task_last_duration_seconds',
      help: 'How long a task last took',
      labelNames: ['task', 'outcome'],
      registers: [this.registry],
      collect() {
        this.reset()
        for (const task of database()?.tasks ?? [])
          if (task.lastDurationMs !== undefined)
            this.set({ task: task.name, outcome: task.lastOutcome ?? 'ok' }, task.lastDurationMs / 1000)
      },
    })
    registerProcessMetrics(this.registry)
  }

  #operationMetric(): object {
    const name = 'kvidx_operation_duration_seconds'
    const values: object[] = []
    for (const [operation, outcomes] of this.#operations)
      for (const [outcome, histogram] of outcomes) {
        const labels = { operation, outcome }
        let total = 0
        for (const [index, count] of histogram.counts.entries()) {
          total += count
          const le = BUCKETS[index] ?? '+Inf'
          values.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: total })
        }
        values.push({ metricName: `${name}_sum`, labels, value: histogram.sum })
        values.push({ metricName: `${name}_count`, labels, value: total })
      }
    return {
      name,
      help: 'Time from the head of a request to its answer, by operation and outcome',
      type: 'histogram',
      values,
      aggregator: 'sum',
    }
  }

  #errorMetric(): object {
    const values = [...this.#errors].map(([code, value]) => ({ labels: { code }, value }))
    return {
      name: 'kvidx_errors_total',
      help: 'Problem documents given, by code',
      type: 'counter',
      values,
      aggregator: 'sum',
    }
  }
}

import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** How a reconcile ended. */
export const RECONCILE_RESULTS = ['success', 'requeue_after', 'error'] as const
export type ReconcileResult = (typeof RECONCILE_RESULTS)[number]

/** Why a watch began again. */
export const WATCH_RESTART_REASONS = ['end', 'error', 'expired'] as const
export type WatchRestartReason = (typeof WATCH_RESTART_REASONS)[number]

const FAST_SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

/**
 * Every figure of the runtime, in one registry. Series whose labels are known beforehand start at zero, so that a rate or an alert
 * over them works before the first event.
 */
export class KubeMetrics {
  readonly registry: Registry
  readonly queueDepth: Gauge<'queue'>
  readonly queueAdds: Counter<'queue'>
  readonly queueRetries: Counter<'queue'>
  readonly queueLatency: Histogram<'queue'>
  readonly queueWork: Histogram<'queue'>
  readonly reconciles: Counter<'controller' | 'result'>
  readonly reconcileDuration: Histogram<'controller'>
  readonly activeWorkers: Gauge<'controller'>
  readonly relists: Counter<'resource'>
  readonly watchRestarts: Counter<'resource' | 'reason'>
  readonly storedObjects: Gauge<'resource'>
  readonly requests: Counter<'verb' | 'resource' | 'code'>
  readonly requestDuration: Histogram<'verb'>
  readonly leader: Gauge<'name'>
  readonly events: Counter<'outcome'>

  constructor(registry: Registry = new Registry()) {
    const registers = [registry]
    this.registry = registry
    this.queueDepth = new Gauge({
      name: 'kvidx_operator_queue_depth',
      help: 'Keys that wait for a worker',
      labelNames: ['queue'],
      registers,
    })
    this.queueAdds = new Counter({
      name: 'kvidx_operator_queue_adds_total',
      help: 'Keys that became ready for a worker',
      labelNames: ['queue'],
      registers,
    })
    this.queueRetries = new Counter({
      name: 'kvidx_operator_queue_retries_total',
      help: 'Keys that were put back after an error',
      labelNames: ['queue'],
      registers,
    })
    this.queueLatency = new Histogram({
      name: 'kvidx_operator_queue_latency_seconds',
      help: 'Time from being ready to being handed to a worker',
      labelNames: ['queue'],
      buckets: FAST_SECONDS,
      registers,
    })
    this.queueWork = new Histogram({
      name: 'kvidx_operator_queue_work_seconds',
      help: 'Time a worker held a key',
      labelNames: ['queue'],
      buckets: FAST_SECONDS,
      registers,
    })
    this.reconciles = new Counter({
      name: 'kvidx_operator_reconcile_total',
      help: 'Reconciles by controller and result',
      labelNames: ['controller', 'result'],
      registers,
    })
    this.reconcileDuration = new Histogram({
      name: 'kvidx_operator_reconcile_duration_seconds',
      help: 'Duration of a reconcile',
      labelNames: ['controller'],
      buckets: FAST_SECONDS,
      registers,
    })
    this.activeWorkers = new Gauge({
      name: 'kvidx_operator_active_workers',
      help: 'Workers that are in a reconcile',
      labelNames: ['controller'],
      registers,
    })
    this.relists = new Counter({
      name: 'kvidx_operator_relists_total',
      help: 'Complete lists of a resource, the first one included',
      labelNames: ['resource'],
      registers,
    })
    this.watchRestarts = new Counter({
      name: 'kvidx_operator_watch_restarts_total',
      help: 'Watches that ended and began again, by why they ended',
      labelNames: ['resource', 'reason'],
      registers,
    })
    this.storedObjects = new Gauge({
      name: 'kvidx_operator_stored_objects',
      help: 'Objects held in memory',
      labelNames: ['resource'],
      registers,
    })
    this.requests = new Counter({
      name: 'kvidx_operator_api_requests_total',
      help: 'Requests to the API server by verb, resource (with its subresource) and HTTP status; code 0 when no answer came',
      labelNames: ['verb', 'resource', 'code'],
      registers,
    })
    this.requestDuration = new Histogram({
      name: 'kvidx_operator_api_request_duration_seconds',
      help: 'Time to the complete answer of the API server; of a watch, to its first byte',
      labelNames: ['verb'],
      buckets: FAST_SECONDS,
      registers,
    })
    this.leader = new Gauge({
      name: 'kvidx_operator_leader',
      help: '1 while this process is the leader',
      labelNames: ['name'],
      registers,
    })
    this.events = new Counter({
      name: 'kvidx_operator_events_total',
      help: 'Events about objects: written to the API server, dropped by a limit, or failed',
      labelNames: ['outcome'],
      registers,
    })
    for (const outcome of ['written', 'dropped', 'failed']) this.events.inc({ outcome }, 0)
  }

  /** Begins the series of a queue at zero. */
  initialiseQueue(queue: string): void {
    this.queueDepth.set({ queue }, 0)
    this.queueAdds.inc({ queue }, 0)
    this.queueRetries.inc({ queue }, 0)
    this.queueLatency.zero({ queue })
    this.queueWork.zero({ queue })
  }

  /** Begins the series of a controller at zero. */
  initialiseController(controller: string): void {
    for (const result of RECONCILE_RESULTS) this.reconciles.inc({ controller, result }, 0)
    this.reconcileDuration.zero({ controller })
    this.activeWorkers.set({ controller }, 0)
  }

  /** Begins the series of a watched resource at zero. */
  initialiseWatch(resource: string): void {
    this.relists.inc({ resource }, 0)
    for (const reason of WATCH_RESTART_REASONS) this.watchRestarts.inc({ resource, reason }, 0)
    // no set: two stores can hold parts of one resource
    this.storedObjects.inc({ resource }, 0)
  }
}

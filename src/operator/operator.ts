import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type { Clock } from '../common/clock.ts'
import type { Logger } from '../common/log.ts'
import { registerProcessMetrics } from '../common/process-metrics.ts'
import { backupCache, backupController } from '../controllers/backup/controller.ts'
import { registerConditionMetrics } from '../controllers/database/condition-metrics.ts'
import { databaseCache, databaseController, informersOf } from '../controllers/database/controller.ts'
import { Prober } from '../controllers/database/prober.ts'
import { DatabaseReconciler } from '../controllers/database/reconciler.ts'
import { restoreController, restoreInformer } from '../controllers/restore/controller.ts'
import { KubeClient } from '../kube/client.ts'
import { Connection } from '../kube/connection.ts'
import type { Controller } from '../kube/controller.ts'
import { LeaderElector } from '../kube/leader.ts'
import { KubeMetrics } from '../kube/metrics.ts'
import { EventRecorder } from '../kube/recorder.ts'
import { type OperatorServer, serveOperator } from './server.ts'

export interface OperatorOptions {
  /** Path; absent: $KUBECONFIG, then the pod's service account. */
  readonly kubeconfig?: string
  /** Empty: all. */
  readonly namespaces: readonly string[]
  /** Namespace of the Lease; absent: that of the connection. */
  readonly namespace?: string
  readonly leaderElect: boolean
  readonly metricsHost: string
  /** 0: any free one */
  readonly metricsPort: number
  readonly databaseImage?: string
  /** Parallel reconciles of each controller. */
  readonly workers: number
}

export interface RunningOperator {
  readonly metrics: KubeMetrics
  /** `http://host:port` */
  readonly address: string
  /** Rejects when the leadership was lost: the process must end. */
  readonly lost: Promise<never>
  /** In this order: controllers, lease, events, watches. */
  stop(): Promise<void>
}

const LEASE = 'kvidx-operator'

/** The control plane: watches, controllers once this replica leads, health and metrics. Errors: those of the connection. */
export async function startOperator(options: OperatorOptions, clock: Clock, log: Logger): Promise<RunningOperator> {
  const metrics = new KubeMetrics()
  registerProcessMetrics(metrics.registry)
  const connection = await Connection.load(options.kubeconfig === undefined ? {} : { kubeconfig: options.kubeconfig })
  const api = new KubeClient({ connection, metrics })
  const identity = `${hostname()}_${randomBytes(4).toString('hex')}`
  const recorder = new EventRecorder({
    api,
    controller: 'kvidx.io/operator',
    instance: hostname(),
    clock,
    metrics,
    log,
  })
  const backups = backupCache({ api, namespaces: options.namespaces, metrics, log })
  const cache = { ...databaseCache({ api, namespaces: options.namespaces, metrics, log }), ...backups }
  registerConditionMetrics(metrics.registry, () => cache.databases.store.all())
  const restores = restoreInformer({ api, namespaces: options.namespaces, metrics, log })
  const informers = [...informersOf(cache), ...Object.values(backups), restores]
  const prober = new Prober(clock)
  const reconciler = new DatabaseReconciler({
    api,
    cache,
    prober,
    recorder,
    clock,
    log,
    defaultImage: options.databaseImage,
  })
  const controllers: Controller[] = [
    databaseController(cache, reconciler, { metrics, log, workers: options.workers }),
    backupController({ api, cache: backups, databases: cache.databases, recorder, clock, metrics, log }),
    restoreController({ api, restores, cache: backups, databases: cache.databases, recorder, clock, metrics, log }),
  ]

  let leading = !options.leaderElect
  let synced = false
  const lost = Promise.withResolvers<never>()
  lost.promise.catch(() => {})
  const lead = () => {
    leading = true
    log.info({ identity }, 'leading')
    for (const controller of controllers) controller.start()
  }
  const elector = options.leaderElect
    ? new LeaderElector({
        api,
        namespace: options.namespace ?? connection.namespace,
        name: LEASE,
        identity,
        onAcquired: lead,
        onLost: reason => lost.reject(reason),
        onNewLeader: leader => log.info({ leader }, 'a leader was seen'),
        clock,
        metrics,
        log,
      })
    : undefined
  const server: OperatorServer = await serveOperator(
    { host: options.metricsHost, port: options.metricsPort },
    {
      metrics: () => metrics.registry.metrics(),
      ready: () => synced,
      describe: () => ({ leading, synced, holder: elector?.holder }),
    },
  )
  // caches fill on every replica: the one that takes over begins at once
  for (const informer of informers) informer.start()
  void Promise.all(informers.map(informer => informer.synced)).then(() => {
    synced = true
    log.info({ databases: [...cache.databases.store.keys()].length }, 'caches are filled')
  })
  if (elector) elector.start()
  else lead()
  return {
    metrics,
    address: server.address,
    lost: lost.promise,
    async stop() {
      await Promise.all(controllers.map(controller => controller.stop()))
      await elector?.stop()
      await recorder.stop()
      await Promise.all(informers.map(informer => informer.stop()))
      await server.close()
      await api.close()
    },
  }
}

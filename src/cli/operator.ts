import { setFlagsFromString } from 'node:v8'
import { Command } from 'commander'
import { environment } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { createLog, LOG_LEVELS, type LogLevel } from '../common/log.ts'
import { portFlag } from './port-flag.ts'
import { waitForSignal } from './signals.ts'

interface OperatorFlags {
  readonly kubeconfig?: string
  readonly leaderElect?: boolean
  readonly watchNamespaces?: string
  readonly namespace?: string
  readonly metricsHost: string
  readonly metricsPort?: string
  readonly databaseImage?: string
  readonly workers?: string
  readonly logLevel?: string
}

/** `kvidx operator`: the controllers. */
export function operatorCommand(): Command {
  return new Command('operator')
    .description('run the Kubernetes operator')
    .option('--kubeconfig <file>', 'how to reach the cluster; default $KUBECONFIG, else the account of the pod')
    .option('--leader-elect', 'work only while holding the lease, so that several replicas can run')
    .option('--watch-namespaces <names>', 'namespaces, separated by commas; default $KVIDX_WATCH_NAMESPACES, else all')
    .option('--namespace <name>', 'namespace of the lease; default $KVIDX_OPERATOR_NAMESPACE, else that of the pod')
    .option('--metrics-host <address>', 'address of /metrics, /healthz and /readyz', '0.0.0.0')
    .option('--metrics-port <port>', 'port of them, 0: any free one; default 8081')
    .option('--database-image <image>', 'image of databases that name none; default $KVIDX_IMAGE')
    .option('--workers <number>', 'databases that are reconciled at a time, 1 to 256; default $KVIDX_WORKERS, else 8')
    .option('--log-level <level>', `one of ${LOG_LEVELS.join(', ')}; default $KVIDX_LOG_LEVEL, else Info`)
    .action(async (flags: OperatorFlags) => {
      // copies of the cluster's objects live long, everything else for one reconcile: V8 would let its garbage grow to a multiple of what is kept
      setFlagsFromString('--optimize-for-size')
      const { startOperator } = await import('../operator/operator.ts')
      const { systemClock } = await import('../common/clock.ts')
      const { logger } = createLog({
        name: 'operator',
        level: levelFlag(flags.logLevel) ?? environment.read('KVIDX_LOG_LEVEL') ?? 'Info',
      })
      const image = flags.databaseImage ?? environment.read('KVIDX_IMAGE')
      const namespace = flags.namespace ?? environment.read('KVIDX_OPERATOR_NAMESPACE')
      const namespaces = (flags.watchNamespaces ?? environment.read('KVIDX_WATCH_NAMESPACES') ?? '')
        .split(',')
        .map(name => name.trim())
        .filter(name => name !== '')
      const operator = await startOperator(
        {
          namespaces,
          leaderElect: flags.leaderElect ?? false,
          metricsHost: flags.metricsHost,
          metricsPort: portFlag(flags.metricsPort, '--metrics-port') ?? 8081,
          workers: workersFlag(flags.workers) ?? environment.read('KVIDX_WORKERS') ?? 8,
          ...(flags.kubeconfig !== undefined && { kubeconfig: flags.kubeconfig }),
          ...(namespace !== undefined && { namespace }),
          ...(image !== undefined && { databaseImage: image }),
        },
        systemClock,
        logger,
      )
      const ended = await Promise.race([waitForSignal(), operator.lost.catch((error: Error) => error)])
      if (ended instanceof Error) {
        // another replica leads from now on: not one more write
        logger.error({ err: ended }, 'the leadership was lost')
        process.exit(1)
      }
      logger.info({ signal: ended }, 'stopping')
      await operator.stop()
      process.exit(0)
    })
}

function levelFlag(text: string | undefined): LogLevel | undefined {
  if (text === undefined) return undefined
  const level = LOG_LEVELS.find(name => name.toLowerCase() === text.toLowerCase())
  if (!level)
    throw new KvidxError(
      'invalid_parameter',
      `--log-level: '${text}' is not a level (allowed: ${LOG_LEVELS.join(', ')})`,
      { field: 'log-level' },
    )
  return level
}

function workersFlag(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const workers = /^\d{1,3}$/.test(text) ? Number(text) : 0
  if (workers < 1 || workers > 256)
    throw new KvidxError('invalid_parameter', `--workers: '${text}' is not allowed (allowed: 1 to 256)`, {
      field: 'workers',
    })
  return workers
}

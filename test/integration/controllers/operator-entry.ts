import { systemClock } from '../../../src/common/clock.ts'
import { createLog } from '../../../src/common/log.ts'
import { startOperator } from '../../../src/operator/operator.ts'
import type { OperatorProcessOptions } from './operator-process.ts'

const options = JSON.parse(process.argv[2] ?? '') as OperatorProcessOptions
const { logger } = createLog({ name: 'operator', level: 'Info' })
const operator = await startOperator(
  {
    kubeconfig: options.kubeconfig,
    namespaces: options.namespaces,
    leaderElect: options.leaseNamespace !== undefined,
    ...(options.leaseNamespace !== undefined && { namespace: options.leaseNamespace }),
    metricsHost: '127.0.0.1',
    metricsPort: 0,
    ...(options.image !== undefined && { databaseImage: options.image }),
    workers: options.workers ?? 8,
  },
  systemClock,
  logger,
)
operator.lost.catch(() => process.exit(1))
process.on('SIGTERM', () => void operator.stop().then(() => process.exit(0)))
process.on('disconnect', () => process.exit(0))
process.send?.(operator.address)

import { type Clock, systemClock } from '../src/common/clock.ts'
import { asKvidxError } from '../src/common/errors.ts'
import { createLog } from '../src/common/log.ts'
import { LocalDatabase } from './database/local-database.ts'
import { Maintenance } from './maintenance/maintenance.ts'
import { OperationsServer } from './server/operations.ts'
import { startServers } from './server/servers.ts'
import { databaseConfigOf, readConfigFile, type SidecarOptions, serversConfigOf } from './settings.ts'

export interface RunningSidecar {
  readonly database: LocalDatabase
  /** `http://host:port` */
  readonly opsAddress: string
  /** Resolves with the data address once the database is open and served; rejects when it cannot be opened. */
  readonly serving: Promise<string>
  /** Design section 4, SIGTERM: stop accepting, finish, checkpoint, close, mark. */
  stop(): Promise<void>
}

/**
 * The engine process of one database. The operations port answers from the first moment: a database that cannot be opened is a
 * process that says why, not one that dies again and again. Errors: invalid_manifest, and the system's when a port is taken.
 */
export async function startSidecar(options: SidecarOptions, clock: Clock = systemClock): Promise<RunningSidecar> {
  const config = readConfigFile(options.configFile)
  const { namespace, name } = config.static
  const log = createLog({
    name: 'sidecar',
    level: config.dynamic.monitoring.logLevel,
    bindings: { namespace, database: name },
  })
  const { logger } = log
  const database = new LocalDatabase(await databaseConfigOf(config, options), clock, logger)
  const maintenance = new Maintenance(database, config.dynamic, clock, logger)
  const serversConfig = serversConfigOf(config, options)
  const operations = await OperationsServer.start(
    { ...serversConfig.operations, status: () => ({ ...statusOf(database), ...maintenance.status() }) },
    logger,
  )
  operations.attach(database)
  const stopping = new AbortController()

  const serve = async () => {
    const report = await database.open(stopping.signal)
    logger.info({ ...report, engine: database.engineVersion, lineage: database.lineage }, 'the database is open')
    await maintenance.start(report)
    const servers = await startServers(database, serversConfig, logger, { operations, clock })
    logger.info({ dataApi: servers.dataAddress, operations: servers.opsAddress, socket: servers.socketPath }, 'serving')
    return servers
  }
  const servers = serve()
  servers.catch((error: unknown) => {
    const failure = asKvidxError(error)
    if (!stopping.signal.aborted)
      logger.error({ err: failure, code: failure.code, details: failure.details }, 'the database cannot be served')
  })

  let stopped: Promise<void> | undefined
  const stop = async () => {
    logger.info('stopping')
    stopping.abort()
    const running = await servers.catch(() => undefined)
    await running?.closeData()
    await maintenance.stop()
    await database.close()
    // last: probes see the stop until it is done
    if (running) await running.close()
    else await operations.close()
    logger.info('stopped')
  }
  return {
    database,
    opsAddress: operations.address,
    serving: servers.then(running => running.dataAddress),
    stop: () => {
      stopped ??= stop()
      return stopped
    },
  }
}

function statusOf(database: LocalDatabase): Record<string, unknown> {
  const { failure, report } = database
  return {
    lifecycle: database.lifecycle,
    namespace: database.config.namespace,
    name: database.config.name,
    ...(failure && { failure: { code: failure.code, message: failure.message, details: failure.details } }),
    ...(report && { start: report }),
  }
}

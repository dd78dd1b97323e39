import { type Clock, systemClock } from '../src/common/clock.ts'
import type { KvidxError } from '../src/common/errors.ts'
import { createLog, type Log } from '../src/common/log.ts'
import { LocalDatabase } from './database/local-database.ts'
import { LiveConfig } from './live-config.ts'
import { Maintenance } from './maintenance/maintenance.ts'
import { ALWAYS_AGAIN, untilItWorks } from './opening.ts'
import { Protection } from './protection.ts'
import type { LogPolicy } from './server/log-policy.ts'
import { OperationsServer } from './server/operations.ts'
import { startServers } from './server/servers.ts'
import { databaseConfigOf, type SidecarOptions, serversConfigOf } from './settings.ts'
import { shortened } from './volume/recovery-note.ts'

export interface RunningSidecar {
  readonly database: LocalDatabase
  /** `http://host:port` */
  readonly opsAddress: string
  /** Resolves with the data address once the database is open and served; rejects when the process is stopped before. */
  readonly serving: Promise<string>
  /** Resolves when the writer is gone and what was under way has its answer: this process can only end, with an error, and be started again. */
  readonly died: Promise<KvidxError>
  /** Design section 4, SIGTERM: stop accepting, finish, checkpoint, close, mark. */
  stop(): Promise<void>
}

/** How long answers may take that are still to go out when the writer is gone, ms. */
const LAST_ANSWERS = 3000

/**
 * The engine process of one database. The operations port answers from the first moment: a database that cannot be opened is a
 * process that says why and tries again, not one that dies again and again. Errors: invalid_manifest, and the system's when a port is taken.
 */
export async function startSidecar(options: SidecarOptions, clock: Clock = systemClock): Promise<RunningSidecar> {
  let log: Log | undefined
  const { configFile, overlay = config => config } = options
  const live = LiveConfig.open(configFile, overlay, ({ static: { namespace, name }, dynamic }) => {
    log = createLog({ name: 'sidecar', level: dynamic.monitoring.logLevel, bindings: { namespace, database: name } })
    return log.logger
  })
  const { logger } = log as unknown as Log
  const database = new LocalDatabase(await databaseConfigOf(live.current, options), clock, logger)
  const maintenance = new Maintenance(database, live, clock, logger)
  const protection = new Protection(database, live.current.dynamic.backup, clock, logger)
  const serversConfig = serversConfigOf(live.current, options)
  // an open database that nobody can reach is not ready: its port is taken, say, or its tokens cannot be used
  let unserved: KvidxError | string | undefined = 'starting'
  /** When it is tried again, Unix ms. */
  let retryAt: number | undefined
  let served = false
  const operations = await OperationsServer.start(
    {
      ...serversConfig.operations,
      unserved: () => database.failure?.message ?? (unserved instanceof Error ? unserved.message : unserved),
      status: () => ({
        ...statusOf(database, unserved, retryAt),
        ...maintenance.status(),
        ...protection.status(),
        ...(live.restartNeeded && { restartNeeded: true }),
      }),
    },
    logger,
  )
  operations.attach(database)
  protection.register(operations.metrics.registry)
  maintenance.register(operations.metrics.registry)
  const stopping = new AbortController()
  live.onChange(dynamic => {
    log?.setLevel(dynamic.monitoring.logLevel)
    protection.configure(dynamic.backup)
    databaseConfigOf(live.current, options)
      .then(config => database.configure(config))
      .catch((error: unknown) => logger.error({ err: error }, 'the new configuration could not be taken up'))
  })
  await live.watch(clock)

  // settings may change while it serves
  const policy: LogPolicy = {
    get slowOperation() {
      return live.current.dynamic.monitoring.slowOperation
    },
    get audit() {
      return live.current.dynamic.audit
    },
  }
  const attempts = {
    clock,
    onChange: (listener: () => void) => live.onChange(listener),
    failed: (error: KvidxError, retryIn: number | undefined) => {
      unserved = error
      retryAt = retryIn === undefined ? undefined : clock.now() + retryIn
      logger.error(
        { err: error, code: error.code, details: error.details, ...(retryIn !== undefined && { retryIn }) },
        'the database cannot be served',
      )
    },
  }
  const open = async () => {
    database.configure(await databaseConfigOf(live.current, options))
    return database.open(stopping.signal, protection.seed(live.current.dynamic), protection.repair)
  }
  const serve = async () => {
    const report = await untilItWorks(open, attempts, stopping.signal)
    logger.info({ ...report, engine: database.engineVersion, lineage: database.lineage }, 'the database is open')
    await protection.settle()
    database.onCondemned = () => {
      reopening = reopen().catch(() => {})
    }
    await maintenance.start(report)
    const servers = await untilItWorks(
      () =>
        startServers(database, serversConfig, logger, {
          operations,
          clock,
          board: database.board,
          services: protection.services,
          policy,
        }),
      attempts,
      stopping.signal,
      ALWAYS_AGAIN,
    )
    served = true
    unserved = undefined
    await protection.start()
    logger.info({ dataApi: servers.dataAddress, operations: servers.opsAddress, socket: servers.socketPath }, 'serving')
    return servers
  }
  /** The engine reported damage while the database served: its probes and ports stay. */
  const reopen = async () => {
    const report = await untilItWorks(open, attempts, stopping.signal)
    // its data port may still wait for something of its own
    if (served) unserved = undefined
    logger.info({ ...report, lineage: database.lineage }, 'the database is open again')
    database.onSwap('after')
    maintenance.opened(report)
  }
  let reopening: Promise<void> | undefined
  const servers = serve()
  const serving = servers.then(running => running.dataAddress)
  // a stop before it served is no news to somebody who does not ask
  serving.catch(() => {})

  // the last answer says why: an exit at once would cut it off
  const died = database.died.then(async error => {
    const answered = servers.then(running => running.closeData()).catch(() => {})
    await Promise.race([answered, clock.sleep(LAST_ANSWERS)])
    return error
  })

  let stopped: Promise<void> | undefined
  const stop = async () => {
    logger.info('stopping')
    unserved = 'stopping'
    live.stop()
    stopping.abort()
    const running = await servers.catch(() => undefined)
    await reopening
    // tasks are cancelled first: who asked for one is a request under way, and a vacuum would hold up the rest
    const maintained = maintenance.stop()
    await running?.closeData()
    // nothing is written any more, so what is there now is all that there is to ship
    await protection.stop()
    await maintained
    await database.close()
    // last: probes see the stop until it is done
    await running?.close()
    await operations.close()
    logger.info('stopped')
  }
  return {
    database,
    opsAddress: operations.address,
    serving,
    died,
    stop: () => {
      stopped ??= stop()
      return stopped
    },
  }
}

function statusOf(
  database: LocalDatabase,
  unserved: KvidxError | string | undefined,
  retryAt: number | undefined,
): Record<string, unknown> {
  const { report, recovery } = database
  const failure = database.failure ?? (unserved instanceof Error ? unserved : undefined)
  const again = retryAt === undefined ? {} : { retryAt: new Date(retryAt).toISOString() }
  return {
    pid: process.pid,
    lifecycle: database.lifecycle,
    namespace: database.config.namespace,
    name: database.config.name,
    ...(failure && { failure: { code: failure.code, message: failure.message, details: failure.details, ...again } }),
    ...(report && { start: report }),
    ...(recovery && { recovery: shortened(recovery) }),
  }
}

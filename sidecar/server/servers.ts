import { access, chmod, lstat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { type Clock, systemClock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import type { Database } from '../database/database.ts'
import type { HealthBoard } from '../database/health.ts'
import { type Access, loopbackAccess, socketAccess, tokenAccess } from './access.ts'
import { Budget } from './budget.ts'
import { showValidity } from './certificate-validity.ts'
import { DEFAULT_LIMITS, isLoopback, type ServersConfig } from './config.ts'
import { DataListener } from './data-listener.ts'
import type { ListenerContext } from './exchange.ts'
import type { Log } from './log.ts'
import { DEFAULT_LOG_POLICY, type LogPolicy } from './log-policy.ts'
import { OperationsServer } from './operations.ts'
import type { AdminServices } from './services.ts'
import { ServerCertificate } from './tls.ts'
import { TokenStore } from './tokens.ts'
import { Watchdog } from './watchdog.ts'

export interface RunningServers {
  /** `http://host:port`, or https */
  readonly dataAddress: string
  /** `http://host:port` */
  readonly opsAddress: string
  readonly socketPath?: string
  /** Data port and socket: nothing new, requests under way finish. Health and metrics go on. */
  closeData(): Promise<void>
  /** All of what was started here. */
  close(): Promise<void>
}

export interface StartOptions {
  /** Started earlier, while the database was opening: `startServers` attaches the database, and whoever started it closes it. */
  readonly operations?: OperationsServer
  readonly clock?: Clock
  /** Where a certificate shows that clients refuse. */
  readonly board?: HealthBoard
  /** Backup and restore. */
  readonly services?: AdminServices
  readonly policy?: LogPolicy
}

const RELOAD_INTERVAL = 5000
/** Of a Unix socket's path, with its final NUL: sockaddr_un. */
const SOCKET_PATH_BYTES = 108

/**
 * Starts the data API and the operations API of an open database.
 * Errors: invalid_parameter (a listener that others reach without tokens; token or TLS files that cannot be used), and the system's
 * own when a port is taken.
 */
export async function startServers(
  database: Database,
  config: ServersConfig,
  log: Log,
  options: StartOptions = {},
): Promise<RunningServers> {
  const clock = options.clock ?? systemClock
  const { data, tokensDirectory, socketPath } = config
  if (tokensDirectory === undefined && !isLoopback(data.host))
    throw new KvidxError(
      'invalid_parameter',
      `the data port would listen on ${data.host} without tokens (allowed: a loopback address, or a directory of tokens)`,
      { field: 'data.host' },
    )
  const closing: Array<() => unknown> = []
  const undo = async (): Promise<void> => {
    for (const close of closing.reverse()) await close()
  }
  try {
    const interval = config.reloadInterval ?? RELOAD_INTERVAL
    const tokens = tokensDirectory === undefined ? undefined : await TokenStore.open(tokensDirectory, log)
    if (tokens) {
      tokens.watch(clock, interval)
      closing.push(() => tokens.stop())
    }
    const certificate = data.tls && (await ServerCertificate.open(data.tls, log))
    const operations = options.operations ?? (await OperationsServer.start(config.operations, log))
    operations.attach(database)
    if (!options.operations) closing.push(() => operations.close())
    if (certificate) {
      const show = (): void => {
        const { validity } = certificate
        operations.metrics.certificate = validity
        if (options.board && validity) showValidity(options.board, validity, clock.now())
      }
      show()
      // also when its files are as they were: time passes
      certificate.files.watch(clock, interval, show)
      closing.push(() => certificate.files.stop())
    }

    const limits = { ...DEFAULT_LIMITS, ...config.limits }
    const stopping = new AbortController()
    const ending = new AbortController()
    const watchdog = new Watchdog(clock, limits.idleTimeout)
    closing.push(() => watchdog.stop())
    const shared = {
      database,
      limits,
      metrics: operations.metrics,
      log,
      policy: options.policy ?? DEFAULT_LOG_POLICY,
      watchdog,
      bodies: new Budget('bytes of bodies and answers in memory', limits.bufferedBytes),
      streams: new Budget('streams at one time', limits.streams),
      followers: new Budget('readers of the change feed', limits.followers),
      stopping: stopping.signal,
      ending: ending.signal,
      ...(options.services && { services: options.services }),
    }
    const contextFor = (access: Access): ListenerContext => ({ ...shared, access })
    const fastPath = config.fastPath ?? true
    const listeners: DataListener[] = []
    const closeData = async (): Promise<void> => {
      stopping.abort()
      const late = setTimeout(() => ending.abort(), limits.drainTimeout)
      await Promise.all(listeners.splice(0).map(listener => listener.close()))
      clearTimeout(late)
    }
    closing.push(closeData)
    const tcp = await DataListener.start(
      contextFor(tokens ? tokenAccess(tokens) : loopbackAccess),
      { host: data.host, port: data.port },
      { fastPath, ...(certificate && { certificate }) },
    )
    listeners.push(tcp)
    if (socketPath !== undefined) listeners.push(await startSocket(contextFor(socketAccess), socketPath, fastPath))
    const host = data.host.includes(':') ? `[${data.host}]` : data.host
    return {
      dataAddress: `${certificate ? 'https' : 'http'}://${host}:${tcp.port}`,
      opsAddress: operations.address,
      ...(socketPath !== undefined && { socketPath }),
      closeData,
      close: undo,
    }
  } catch (error) {
    await undo()
    throw error
  }
}

async function startSocket(context: ListenerContext, path: string, fastPath: boolean): Promise<DataListener> {
  if (Buffer.byteLength(path) >= SOCKET_PATH_BYTES)
    throw new KvidxError(
      'invalid_parameter',
      `the path of the Unix socket has ${Buffer.byteLength(path)} bytes (at most ${SOCKET_PATH_BYTES - 1}): ${path}`,
    )
  // bind() itself would call it a lack of permission
  await access(dirname(path)).catch((error: unknown) => {
    throw new KvidxError(
      'invalid_parameter',
      `the directory of the Unix socket ${path} cannot be used: ${(error as Error).message}`,
      {},
      error,
    )
  })
  await removeStaleSocket(path)
  const listener = await DataListener.start(context, { path }, { fastPath })
  try {
    // the group comes from the directory (2770); members of it may use the socket
    await chmod(path, 0o660)
  } catch (error) {
    // the next attempt would take it for another process
    await listener.close()
    throw error
  }
  return listener
}

/** A process that was killed leaves its socket behind; one that lives answers. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (!found) return
  if (!found.isSocket())
    throw new KvidxError(
      'conflict',
      `${path} exists and is no socket (allowed: nothing, or the socket of a process that is gone)`,
    )
  const alive = await new Promise<boolean>(resolve => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    // one that is stopped or busy has no room in its queue (EAGAIN), one of another user no door for us (EACCES)
    probe.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'))
  })
  if (alive) throw new KvidxError('conflict', `another process serves ${path}`)
  await unlink(path)
}

import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { lockVolume } from '../../sidecar/volume/lock.ts'
import { withDefaults } from '../api/v1alpha1/defaults.ts'
import type { KvidxDatabase } from '../api/v1alpha1/kvidx-database.ts'
import { renderSidecarConfig, type SidecarConfigInput, sidecarConfig } from '../api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../common/clock.ts'
import { makeDirectory, unwritable } from '../common/directory.ts'
import { childEnvironment, DATABASE_VARIABLES } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'
import { launcherUrl } from '../common/worker-url.ts'
import { configPaths, type StandalonePaths, standalonePaths } from './paths.ts'
import type { DatabasePorts } from './ports.ts'
import { replaceFile } from './replace-file.ts'
import { BackupSchedules, scheduleMemory } from './schedules.ts'
import { Supervisor } from './supervisor.ts'
import { describe, type SidecarStatus, watchStatus } from './watch.ts'

export interface RunOptions {
  /** Everything of all databases lies below. */
  readonly root: string
  readonly host: string
  /** One entry for each database. */
  readonly ports: readonly DatabasePorts[]
  readonly tokensDirectory?: string
  /** Where lines for people go. */
  readonly print: (line: string) => void
}

export interface RunningDatabase {
  readonly namespace: string
  readonly name: string
  readonly dataAddress: string
  readonly opsAddress: string
  readonly socket: string
}

export interface Standalone {
  readonly databases: readonly RunningDatabase[]
  stop(): Promise<void>
  /** Without waiting. */
  kill(): void
}

interface Memory {
  readonly lineage?: string
}

/** A young generation of 3 x 8 MiB a thread and two arenas of malloc: a third less memory under load, at no speed that could be measured. */
const ENGINE_PROCESS = { NODE_OPTIONS: '--max-semi-space-size=4', MALLOC_ARENA_MAX: '2' } as const

/** Manifests alone say what their databases are: a variable would hold for all of them. */
const MANIFEST_ONLY = Object.fromEntries(DATABASE_VARIABLES.map(name => [name, undefined]))

const LAUNCHER = fileURLToPath(launcherUrl())
/** A Unix socket's path has room for so many bytes. */
const SOCKET_PATH_LIMIT = 107

/** Runs every database of a manifest as a supervised process. The manifests must be valid. */
export function runStandalone(databases: readonly KvidxDatabase[], options: RunOptions, clock: Clock): Standalone {
  // what holds for all is the answer to the command
  makeDirectory(options.root)
  const stopping = new AbortController()
  const running = databases.map((database, index) => startOne(database, index, options, clock, stopping.signal))
  return {
    databases: running.map(entry => entry.database),
    async stop() {
      stopping.abort()
      // a backup under way needs its database
      await Promise.all(running.map(entry => entry.schedules?.stop()))
      await Promise.all(running.map(entry => entry.supervisor.stop()))
      for (const { release } of running) release()
    },
    kill() {
      for (const entry of running) entry.supervisor.kill()
    },
  }
}

function startOne(
  resource: KvidxDatabase,
  index: number,
  options: RunOptions,
  clock: Clock,
  signal: AbortSignal,
): {
  database: RunningDatabase
  supervisor: Supervisor
  schedules: BackupSchedules | undefined
  release: () => void
} {
  const { name } = resource.metadata
  const namespace = resource.metadata.namespace ?? 'default'
  const { paths, release } = ownPaths(standalonePaths(options.root, namespace, name))
  const ports = options.ports[index]
  if (!ports) throw new TypeError(`no ports for ${name}`)
  const socket = Buffer.byteLength(paths.socket) <= SOCKET_PATH_LIMIT ? paths.socket : undefined
  const args = [
    'sidecar',
    '--config',
    paths.config,
    '--data-dir',
    paths.data,
    '--host',
    options.host,
    '--data-port',
    String(ports.data),
    '--ops-port',
    String(ports.ops),
  ]
  if (socket !== undefined) args.push('--socket', socket)
  if (options.tokensDirectory !== undefined) args.push('--token-dir', options.tokensDirectory)
  const label = `${namespace === 'default' ? '' : `${namespace}/`}${name}`
  const supervisor = new Supervisor(
    {
      command: process.execPath,
      args: [LAUNCHER, ...args],
      env: childEnvironment({ ...MANIFEST_ONLY, ...ENGINE_PROCESS }),
      logFile: paths.log,
      // one that cannot be prepared is no reason for the others not to run
      prepare() {
        makeDirectory(paths.data)
        makeDirectory(paths.backups)
        const hindrance = unwritable(paths.directory)
        if (hindrance !== undefined) throw new KvidxError('engine_io', hindrance)
        writeConfig(resource, namespace, paths, readMemory(paths))
      },
    },
    clock,
    end => {
      const ended = end.signal ? `was ended by ${end.signal}` : `ended with code ${end.code}`
      const how = end.unstarted ? 'could not be started' : ended
      const why = end.lastLine === undefined ? '' : `: ${end.lastLine}`
      options.print(
        `${label}: the process ${how}${why}; starting it again in ${end.restartIn / 1000} s (log: ${paths.log})`,
      )
    },
  )
  supervisor.start()
  const database = {
    namespace,
    name,
    dataAddress: addressOf(options.host, ports.data),
    opsAddress: addressOf(options.host, ports.ops),
    socket: socket ?? '',
  }
  let last = ''
  let forgetful = ''
  const told = (status: SidecarStatus | undefined) => {
    // a process that is starting may not have the port yet, and whoever has it is somebody else
    if (status !== undefined && status.pid !== supervisor.pid) return
    const line = describe(status)
    if (line !== last) options.print(`${label}: ${line}`)
    last = line
    try {
      rememberLineage(resource, namespace, paths, status)
      forgetful = ''
    } catch (error) {
      // a full disk, say; the next status is the next attempt
      const { message } = error as Error
      if (message !== forgetful) options.print(`${label}: its lineage cannot be remembered: ${message}`)
      forgetful = message
    }
  }
  void watchStatus(database.opsAddress, clock, signal, told)
  const { backup } = sidecarConfig(configInput(resource, namespace, paths, {})).dynamic
  const server = ['--config', paths.config, '--server', database.dataAddress]
  const token = options.tokensDirectory === undefined ? [] : ['--token-file', join(options.tokensDirectory, 'admin')]
  const schedules =
    backup &&
    new BackupSchedules({
      backup,
      flags: [...server, ...token],
      launcher: LAUNCHER,
      opsAddress: database.opsAddress,
      scratch: join(paths.directory, 'scratch'),
      memoryFile: scheduleMemory(paths.directory),
      clock,
      print: line => options.print(`${label}: ${line}`),
    })
  schedules?.start()
  return { database, supervisor, schedules, release }
}

/** The configuration of a database that another `kvidx run` serves is left to that one: its engine process takes up what is written there. */
function ownPaths(paths: StandalonePaths): { paths: StandalonePaths; release: () => void } {
  try {
    mkdirSync(paths.directory, { recursive: true, mode: 0o700 })
    const { release } = lockVolume(join(paths.directory, 'run.lock'), hostname())
    return { paths, release }
  } catch (error) {
    // what hinders here hinders the start, and is said there
    if (!(error instanceof KvidxError)) return { paths, release() {} }
    const config = join(paths.directory, `config-${process.pid}.json`)
    return { paths: { ...paths, config }, release: () => rmSync(config, { force: true }) }
  }
}

/** As a client on this machine reaches it. */
function addressOf(host: string, port: number): string {
  const reached = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return `http://${reached.includes(':') ? `[${reached}]` : reached}:${port}`
}

/** The lineage, once known, is expected of every later start: a volume that was lost is then not taken for a new one. */
function rememberLineage(
  resource: KvidxDatabase,
  namespace: string,
  paths: StandalonePaths,
  status: SidecarStatus | undefined,
): void {
  if (!status?.lineage || readMemory(paths).lineage === status.lineage) return
  const memory: Memory = { lineage: status.lineage }
  writeConfig(resource, namespace, paths, memory)
  replaceFile(paths.memory, `${JSON.stringify(memory)}\n`)
}

function writeConfig(resource: KvidxDatabase, namespace: string, paths: StandalonePaths, memory: Memory): void {
  replaceFile(paths.config, renderSidecarConfig(sidecarConfig(configInput(resource, namespace, paths, memory))))
}

function configInput(
  resource: KvidxDatabase,
  namespace: string,
  paths: StandalonePaths,
  { lineage }: Memory,
): SidecarConfigInput {
  return {
    namespace,
    name: resource.metadata.name,
    spec: withDefaults(resource.spec),
    paths: configPaths(paths),
    ...(lineage !== undefined && { expectedLineage: lineage }),
  }
}

function readMemory(paths: StandalonePaths): Memory {
  try {
    return JSON.parse(readFileSync(paths.memory, 'utf8')) as Memory
  } catch {
    return {}
  }
}

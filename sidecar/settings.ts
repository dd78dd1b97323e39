import { readFileSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { parseSidecarConfig, type SidecarConfig } from '../src/api/v1alpha1/sidecar-config.ts'
import { KvidxError } from '../src/common/errors.ts'
import { shareOf, volumeSpace } from '../src/common/volume-space.ts'
import type { DatabaseConfig } from './database/config.ts'
import type { EngineTuning } from './engine/engine.ts'
import type { ServersConfig } from './server/config.ts'

/** How `kvidx sidecar` was called: what the configuration document does not say, because it differs from pod to pod. */
export interface SidecarOptions {
  /** The mounted configuration document; looked at again while the process runs. */
  readonly configFile: string
  /** What flags and variables change of the document, each time that it is read. */
  readonly overlay?: (config: SidecarConfig) => SidecarConfig
  readonly dataDirectory: string
  readonly host: string
  readonly dataPort: number
  readonly opsPort: number
  readonly opsHost: string
  readonly socketPath?: string
  readonly tokensDirectory?: string
  readonly tlsDirectory?: string
  readonly node: string
  readonly pod: string
}

/** Reads and checks the document. Errors: invalid_manifest naming file and field. */
export function readConfigFile(path: string): SidecarConfig {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new KvidxError(
      'invalid_manifest',
      `${path} cannot be read: ${(error as Error).message}`,
      { field: 'config' },
      error,
    )
  }
  return parseSidecarConfig(text, path)
}

/** The part of the document that the database is opened with. */
export async function databaseConfigOf(config: SidecarConfig, options: SidecarOptions): Promise<DatabaseConfig> {
  const { static: fixed, dynamic } = config
  const { size } = volumeSpace(options.dataDirectory)
  const { bootstrap } = dynamic
  const tuning = fixed.tuning as EngineTuning
  return {
    namespace: fixed.namespace,
    name: fixed.name,
    engine: fixed.engine,
    dataDirectory: options.dataDirectory,
    node: options.node,
    tuning: fixed.autoCache
      ? { ...tuning, cacheSize: autoCacheSize(await dataSize(options.dataDirectory), memoryLimit()) }
      : tuning,
    ...(dynamic.expectedLineage !== undefined && { lineage: dynamic.expectedLineage }),
    ...(bootstrap?.adopt !== undefined && { adopt: bootstrap.adopt }),
    ...(bootstrap?.clone !== undefined && { clone: bootstrap.clone }),
    ...((bootstrap?.restore || bootstrap?.import) && {
      bootstrap: JSON.stringify(bootstrap.restore ?? bootstrap.import),
    }),
    limits: {
      maxDataBytes: fixed.limits.recordBytes,
      atomicBytes: fixed.limits.atomicBytes,
      atomicRecords: fixed.limits.atomicRecords,
    },
    changeLog: {
      maxBytes: shareOf(dynamic.changeLog.maxSize, size),
      idleBytes: shareOf(dynamic.changeLog.idleSize, size),
    },
    recovery: {
      onCorruption: dynamic.recovery.onCorruption,
      fullCheck: dynamic.recovery.fullCheck,
      adoptGrace: dynamic.recovery.adoptGrace,
      ...(dynamic.recovery.allowEmpty !== undefined && { allowEmpty: dynamic.recovery.allowEmpty }),
    },
    lockTimeout: 0,
  }
}

export function serversConfigOf(config: SidecarConfig, options: SidecarOptions): ServersConfig {
  const { limits, security } = config.static
  return {
    data: {
      host: options.host,
      port: options.dataPort,
      ...(security.tls &&
        options.tlsDirectory !== undefined && {
          tls: { certFile: join(options.tlsDirectory, 'tls.crt'), keyFile: join(options.tlsDirectory, 'tls.key') },
        }),
    },
    ...(security.socket && options.socketPath !== undefined && { socketPath: options.socketPath }),
    operations: { host: options.opsHost, port: options.opsPort },
    ...(options.tokensDirectory !== undefined && { tokensDirectory: options.tokensDirectory }),
    limits: {
      recordBytes: limits.recordBytes,
      batchBytes: limits.atomicBytes + limits.atomicBytes / 8,
      batchOperations: limits.atomicRecords,
      bufferedBytes: limits.bufferedBytes,
      connections: limits.connections,
      streams: limits.streams,
      followers: limits.followers,
      idleTimeout: limits.idleTimeout,
    },
  }
}

const MIB = 1024 * 1024

/**
 * `cacheSize: auto`: 15 % of the data, as the guide advises 10 to 20 %; at least 32 MiB, at most a quarter of the memory that this
 * process may use. Bytes.
 */
export function autoCacheSize(dataBytes: number, memoryBytes: number): number {
  return Math.max(32 * MIB, Math.min(Math.floor(dataBytes * 0.15), Math.floor(memoryBytes / 4)))
}

async function dataSize(root: string): Promise<number> {
  const directory = join(root, 'db')
  try {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true })
    return entries
      .filter(entry => entry.isFile())
      .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
  } catch {
    return 0
  }
}

/** The container's limit, else the machine's memory. */
function memoryLimit(): number {
  const limit = process.constrainedMemory()
  return limit > 0 && limit < Number.MAX_SAFE_INTEGER ? limit : process.availableMemory()
}

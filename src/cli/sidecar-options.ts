import { mkdtempSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SidecarOptions } from '../../sidecar/settings.ts'
import { parseManifests } from '../api/manifest.ts'
import { withDefaults } from '../api/v1alpha1/defaults.ts'
import { renderSidecarConfig, sidecarConfig } from '../api/v1alpha1/sidecar-config.ts'
import { makeDirectory } from '../common/directory.ts'
import type { Environment } from '../common/environment.ts'
import { refused } from '../common/errors.ts'
import { portFlag } from './port-flag.ts'
import type { SidecarFlags } from './sidecar-flags.ts'
import { given, overlaid } from './sidecar-overlay.ts'

/** Flags, then variables, then the configuration document; without one it is made from what the flags and variables say. */
export async function sidecarOptions(flags: SidecarFlags, environment: Environment): Promise<SidecarOptions> {
  const dataDirectory = flags.dataDir ?? environment.read('KVIDX_DATA_DIR') ?? '/data'
  const host = flags.host ?? environment.read('KVIDX_HOST') ?? '127.0.0.1'
  const socketPath = flags.socket ?? environment.read('KVIDX_SOCKET')
  const tokensDirectory = flags.tokenDir ?? environment.read('KVIDX_TOKEN_DIR')
  const dataPort = portFlag(flags.dataPort, '--data-port') ?? environment.read('KVIDX_DATA_PORT') ?? 7400
  const opsPort = portFlag(flags.opsPort, '--ops-port') ?? environment.read('KVIDX_OPS_PORT') ?? 8080
  const opsHost = flags.opsHost ?? host
  // the port would be taken, by ourselves, for as long as we wait for it
  if (dataPort === opsPort && dataPort !== 0 && host === opsHost)
    throw refused('--ops-port', `${opsPort} of ${host} is the data port, too (allowed: another one, or 0 for any)`)
  try {
    makeDirectory(dataDirectory)
  } catch (error) {
    throw refused('--data-dir', (error as Error).message)
  }
  return {
    overlay: config => overlaid(config, flags, environment),
    configFile: flags.config ?? environment.read('KVIDX_CONFIG') ?? configFromEnvironment(flags, environment),
    dataDirectory,
    host,
    dataPort,
    opsPort,
    opsHost,
    ...(socketPath !== undefined && { socketPath }),
    ...(tokensDirectory !== undefined && { tokensDirectory }),
    ...(flags.tlsDir !== undefined && { tlsDirectory: flags.tlsDir }),
    node: environment.read('KVIDX_NODE') ?? hostname(),
    pod: environment.read('KVIDX_POD') ?? hostname(),
  }
}

/** For `docker run` and compose: the same document, made from variables. */
function configFromEnvironment(flags: SidecarFlags, environment: Environment): string {
  const text = (value: string | number | undefined) => (value === undefined ? undefined : String(value))
  const tuning = {
    syncMode: environment.read('KVIDX_SYNC_MODE'),
    journalMode: environment.read('KVIDX_JOURNAL_MODE'),
    cacheSize: text(environment.read('KVIDX_CACHE_SIZE')),
    busyTimeout: milliseconds(environment.read('KVIDX_BUSY_TIMEOUT')),
    mmapSize: text(environment.read('KVIDX_MMAP_SIZE')),
    mapSize: text(environment.read('KVIDX_MAP_SIZE')),
    compression: environment.read('KVIDX_COMPRESSION'),
  }
  const manifest = {
    apiVersion: 'kvidx.io/v1alpha1',
    kind: 'KvidxDatabase',
    metadata: {
      name: flags.name ?? environment.read('KVIDX_DATABASE') ?? 'main',
      namespace: environment.read('KVIDX_NAMESPACE') ?? 'default',
    },
    spec: {
      engine: flags.engine ?? environment.read('KVIDX_ENGINE') ?? 'SQLite',
      storage: { size: '10Gi' },
      tuning: given(tuning),
      monitoring: { logLevel: environment.read('KVIDX_LOG_LEVEL') ?? 'Info' },
    },
  }
  const [entry] = parseManifests([{ file: 'environment', text: JSON.stringify(manifest) }]).objects
  if (entry?.object.kind !== 'KvidxDatabase') throw new Error('the environment makes no database')
  const { metadata, spec } = entry.object
  // not on the volume: nothing but our own files makes it ours
  const path = join(mkdtempSync(join(tmpdir(), 'kvidx-')), 'config.json')
  writeFileSync(
    path,
    renderSidecarConfig(
      sidecarConfig({ namespace: metadata.namespace ?? 'default', name: metadata.name, spec: withDefaults(spec) }),
    ),
    { mode: 0o600 },
  )
  return path
}

function milliseconds(value: number | undefined): string | undefined {
  return value === undefined ? undefined : `${value}ms`
}

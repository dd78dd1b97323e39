import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import { type RunningSidecar, startSidecar } from '../../sidecar/main.ts'
import { withDefaults } from '../../src/api/v1alpha1/defaults.ts'
import { renderSidecarConfig, type SidecarConfig, sidecarConfig } from '../../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../../src/common/clock.ts'

/** A sidecar in this process, with a configuration file that a test may change. */
export interface SidecarHere {
  readonly sidecar: RunningSidecar
  readonly directory: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into documents of many shapes
  status(): Promise<any>
  /** Writes the configuration anew. */
  configure(change: ConfigChange): void
}

export interface ConfigChange {
  readonly spec?: object
  readonly expectedLineage?: string
  /** What the manifest has no such small values for. */
  readonly edit?: (config: SidecarConfig) => SidecarConfig
}

export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-maintenance-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

export async function sidecarHere(
  given: ConfigChange & {
    readonly engine?: EngineKind
    readonly directory?: string
    readonly clock?: Clock
    readonly dataPort?: number
    readonly socketPath?: string
    readonly tokensDirectory?: string
    readonly tlsDirectory?: string
  } = {},
): Promise<SidecarHere> {
  const root = temporaryDirectory()
  const directory = given.directory ?? join(root, 'volume')
  mkdirSync(directory, { recursive: true })
  const configFile = join(root, 'config.json')
  const configure = ({ spec, expectedLineage, edit }: ConfigChange) => {
    const full = withDefaults({ engine: given.engine ?? 'SQLite', storage: { size: '1Gi' }, ...spec } as never)
    const config = sidecarConfig({
      namespace: 'default',
      name: 'orders',
      spec: full as never,
      ...(expectedLineage !== undefined && { expectedLineage }),
    })
    writeFileSync(configFile, renderSidecarConfig(edit ? edit(config) : config))
  }
  configure({ spec: { monitoring: { logLevel: 'Error' } }, ...given })
  const { socketPath, tokensDirectory, tlsDirectory } = given
  const options = {
    ...(socketPath !== undefined && { socketPath }),
    ...(tokensDirectory !== undefined && { tokensDirectory }),
    ...(tlsDirectory !== undefined && { tlsDirectory }),
    host: '127.0.0.1',
    opsHost: '127.0.0.1',
    dataPort: given.dataPort ?? 0,
    opsPort: 0,
    node: 'test',
    pod: 'test',
  }
  const sidecar = await startSidecar({ ...options, configFile, dataDirectory: directory }, given.clock)
  onTestFinished(() => sidecar.stop())
  return {
    sidecar,
    directory,
    configure,
    status: async () => (await fetch(`${sidecar.opsAddress}/status`)).json(),
  }
}

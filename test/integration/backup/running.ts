import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { type RunningSidecar, startSidecar } from '../../../sidecar/main.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { renderSidecarConfig, type SidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { configPaths, standalonePaths } from '../../../src/standalone/paths.ts'

/** A real sidecar of this process with its own volume and directory store. */
export interface Running {
  readonly root: string
  readonly data: string
  readonly backups: string
  readonly configFile: string
  readonly store: string
  readonly sidecar: RunningSidecar
  readonly url: string
  // biome-ignore lint/suspicious/noExplicitAny: a document of the server
  status(): Promise<any>
  put(key: number | bigint, data: string, query?: string): Promise<void>
  stop(): Promise<void>
}

export const SCHEDULES = [
  { name: 'daily', schedule: '0 2 * * *', type: 'Full', verify: true },
  { name: 'hourly', schedule: '15 * * * *', type: 'Incremental' },
]

export function writeConfig(root: string, name: string, engine: EngineKind, spec: object): string {
  const paths = standalonePaths(root, 'default', name)
  mkdirSync(paths.data, { recursive: true })
  mkdirSync(paths.backups, { recursive: true })
  const whole = withDefaults({
    engine,
    storage: { size: '1Gi' },
    monitoring: { logLevel: 'Error' },
    ...spec,
  } as never) as never
  const config: SidecarConfig = sidecarConfig({ namespace: 'default', name, spec: whole, paths: configPaths(paths) })
  // tests are not about fsync
  const text = renderSidecarConfig(config).replace('"syncMode": "Full"', '"syncMode": "Normal"')
  writeFileSync(paths.config, text)
  return paths.config
}

export async function startRunning(
  given: {
    readonly engine?: EngineKind
    readonly backup?: object
    readonly spec?: object
    readonly root?: string
    readonly name?: string
  } = {},
): Promise<Running> {
  const root = given.root ?? mkdtempSync(join(tmpdir(), 'kvidx-running-'))
  const name = given.name ?? 'orders'
  const configFile = writeConfig(root, name, given.engine ?? 'SQLite', {
    backup: { destination: { volume: { size: '1Gi' } }, schedules: SCHEDULES, ...given.backup },
    ...given.spec,
  })
  const paths = standalonePaths(root, 'default', name)
  const sidecar = await startSidecar({
    configFile,
    dataDirectory: paths.data,
    host: '127.0.0.1',
    opsHost: '127.0.0.1',
    dataPort: 0,
    opsPort: 0,
    node: 'test',
    pod: 'test',
  })
  const url = await sidecar.serving
  return {
    root,
    data: paths.data,
    backups: paths.backups,
    configFile,
    store: `file://${paths.backups}`,
    sidecar,
    url,
    status: async () => (await fetch(`${sidecar.opsAddress}/status`)).json(),
    async put(key, data, query = '') {
      const answer = await fetch(`${url}/v1/records/${key}${query}`, { method: 'PUT', body: data })
      if (!answer.ok) throw new Error(await answer.text())
      await answer.arrayBuffer()
    },
    stop: () => sidecar.stop(),
  }
}

export function remove(running: Running): void {
  rmSync(running.root, { recursive: true, force: true })
}

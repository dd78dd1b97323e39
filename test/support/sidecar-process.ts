import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import { withDefaults } from '../../src/api/v1alpha1/defaults.ts'
import { type ConfigPaths, renderSidecarConfig, sidecarConfig } from '../../src/api/v1alpha1/sidecar-config.ts'

/** A real sidecar in a process of its own, on free loopback ports. */
export interface SidecarProcess {
  readonly child: ChildProcess
  readonly data: string
  readonly operations: string
  /** Everything it logged. */
  readonly log: () => string
  kill(signal: NodeJS.Signals): Promise<void>
}

const UNSERVED = '"msg":"the database cannot be served"'
const ENTRY = fileURLToPath(new URL('./sidecar-entry.ts', import.meta.url))

export async function startSidecarProcess(
  directory: string,
  engine: EngineKind,
  options: {
    readonly spec?: object
    readonly env?: Readonly<Record<string, string>>
    readonly name?: string
    readonly paths?: ConfigPaths
  } = {},
): Promise<SidecarProcess> {
  mkdirSync(directory, { recursive: true })
  const configFile = `${directory}.config.json`
  const spec = withDefaults({ engine, storage: { size: '1Gi' }, ...options.spec } as never)
  const name = options.name ?? 'orders'
  const paths = options.paths && { paths: options.paths }
  writeFileSync(
    configFile,
    renderSidecarConfig(sidecarConfig({ namespace: 'default', name, spec: spec as never, ...paths })),
  )
  return runSidecar(configFile, directory, options.env)
}

/** With a configuration file that is there already. */
export async function runSidecar(
  configFile: string,
  directory: string,
  env: Readonly<Record<string, string>> = {},
): Promise<SidecarProcess> {
  const child = spawn(process.execPath, [ENTRY, configFile, directory], {
    env: { ...process.env, NODE_OPTIONS: '--max-semi-space-size=4', MALLOC_ARENA_MAX: '2', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let log = ''
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const addresses = await new Promise<{ data: string; operations: string }>((resolve, reject) => {
    let out = ''
    let served = false
    child.stdout?.on('data', chunk => {
      out += String(chunk)
      const line = out.split('\n').find(text => text.startsWith('{'))
      if (!line || !out.includes('\n')) return
      served = true
      resolve(JSON.parse(line) as { data: string; operations: string })
    })
    child.stderr?.on('data', chunk => {
      log += String(chunk)
      if (served || !log.endsWith('\n')) return
      // it stands there until somebody changes its configuration; with `retryIn` it tries again by itself
      const hopeless = log.split('\n').find(line => line.includes(UNSERVED) && !line.includes('"retryIn"'))
      if (hopeless === undefined) return
      child.kill('SIGKILL')
      reject(new Error(`the sidecar does not serve:\n${hopeless}`))
    })
    void exited.then(() => reject(new Error(`the sidecar ended before it served:\n${log}`)))
  })
  return {
    child,
    ...addresses,
    log: () => log,
    async kill(signal) {
      child.kill(signal)
      await exited
    },
  }
}

export function newVolume(root: string, name: string): string {
  return join(root, name)
}

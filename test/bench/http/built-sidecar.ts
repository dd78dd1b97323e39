import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { type ConfigPaths, renderSidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'

export interface BuiltSidecar {
  readonly pid: number
  /** `http://host:port` */
  readonly data: string
  readonly operations: string
  stop(): Promise<void>
}

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
let built = false

/** The bundle, as it runs in the image: from the sources each thread would carry the compiler's memory, too. */
export async function startBuiltSidecar(
  directory: string,
  engine: EngineKind,
  options: { readonly spec?: object; readonly paths?: ConfigPaths } = {},
): Promise<BuiltSidecar> {
  if (!built)
    execFileSync(process.execPath, ['scripts/build.ts'], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] })
  built = true
  mkdirSync(directory, { recursive: true })
  const configFile = `${directory}.config.json`
  const spec = withDefaults({ engine, storage: { size: '20Gi' }, ...options.spec } as never) as never
  const paths = options.paths && { paths: options.paths }
  writeFileSync(configFile, renderSidecarConfig(sidecarConfig({ namespace: 'default', name: 'bench', spec, ...paths })))
  const [dataPort, opsPort] = [await freePort(), await freePort()]
  const child = spawn(
    process.execPath,
    [
      'dist/kvidx.js',
      'sidecar',
      '--config',
      configFile,
      '--data-dir',
      directory,
      '--data-port',
      String(dataPort),
      '--ops-port',
      String(opsPort),
    ],
    {
      cwd: ROOT,
      env: { ...process.env, NODE_OPTIONS: '--max-semi-space-size=4', MALLOC_ARENA_MAX: '2' },
      stdio: ['ignore', 'inherit', 'ignore'],
    },
  )
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${opsPort}/ready`).catch(() => undefined)
    if (answer?.ok) break
    if (child.exitCode !== null) throw new Error(`the sidecar ended with code ${child.exitCode}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  return {
    pid: child.pid ?? 0,
    data: `http://127.0.0.1:${dataPort}`,
    operations: `http://127.0.0.1:${opsPort}`,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return port
}

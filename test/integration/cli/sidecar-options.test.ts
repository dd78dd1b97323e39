import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { startSidecar } from '../../../sidecar/main.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { renderSidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import type { SidecarFlags } from '../../../src/cli/sidecar-flags.ts'
import { sidecarOptions } from '../../../src/cli/sidecar-options.ts'
import { DATABASE_VARIABLES, Environment } from '../../../src/common/environment.ts'
import { temporaryDirectory } from '../../support/sidecar-here.ts'

const ports = { dataPort: '0', opsPort: '0' }

function document(path: string, spec: object = {}): string {
  const full = withDefaults({
    engine: 'SQLite',
    storage: { size: '1Gi' },
    tuning: { syncMode: 'Full', cacheSize: '64Mi', busyTimeout: '5s' },
    monitoring: { logLevel: 'Warn' },
    ...spec,
  } as never)
  writeFileSync(path, renderSidecarConfig(sidecarConfig({ namespace: 'shop', name: 'orders', spec: full as never })))
  return path
}

test('flags win over variables, variables over the document, also when that changes', { timeout: 30_000 }, async () => {
  const root = temporaryDirectory()
  const config = document(join(root, 'config.json'))
  const flags: SidecarFlags = { ...ports, config, dataDir: join(root, 'volume'), name: 'invoices' }
  const environment = new Environment({
    KVIDX_DATABASE: 'bills',
    KVIDX_NAMESPACE: 'store',
    KVIDX_SYNC_MODE: 'normal',
    KVIDX_CACHE_SIZE: 'auto',
    KVIDX_MMAP_SIZE: '1Mi',
    KVIDX_LOG_LEVEL: 'Error',
  })
  const sidecar = await startSidecar(await sidecarOptions(flags, environment))
  onTestFinished(() => sidecar.stop())
  await sidecar.serving
  const { namespace, name, engine, tuning } = sidecar.database.config
  expect({ namespace, name, engine, tuning }).toMatchObject({
    namespace: 'store',
    name: 'invoices',
    engine: 'SQLite',
    // auto: at least so much
    tuning: { syncMode: 'Normal', cacheSize: 32 << 20, busyTimeout: 5000, mmapSize: 1 << 20 },
  })
  const before = sidecar.database.config.changeLog.maxBytes
  document(config, { changeLog: { maxSize: '3Mi', idleSize: '1Mi' } })
  await vi.waitFor(() => expect(sidecar.database.config.changeLog.maxBytes).toBe(3 << 20), { timeout: 10_000 })
  expect(before).not.toBe(3 << 20)
  expect(sidecar.database.config.tuning.syncMode).toBe('Normal')
  const status = (await (await fetch(`${sidecar.opsAddress}/status`)).json()) as { restartNeeded?: boolean }
  expect(status.restartNeeded).toBeUndefined()
})

test.each<[string, SidecarFlags, Record<string, string>, string]>([
  ['an engine', { engine: 'Oracle' }, {}, 'engine'],
  ['a level', {}, { KVIDX_LOG_LEVEL: 'loud' }, 'KVIDX_LOG_LEVEL'],
  ['a size', {}, { KVIDX_CACHE_SIZE: 'much' }, 'KVIDX_CACHE_SIZE'],
])(
  '%s that is not one is refused by name, although the document has a good one',
  async (_what, flags, variables, named) => {
    const root = temporaryDirectory()
    const options = await sidecarOptions(
      { ...ports, ...flags, config: document(join(root, 'config.json')), dataDir: join(root, 'volume') },
      new Environment(variables),
    )
    await expect(startSidecar(options)).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringContaining(named),
    })
  },
)

test('every variable that wins over the document changes it', async () => {
  const values: Record<(typeof DATABASE_VARIABLES)[number], string> = {
    KVIDX_NAMESPACE: 'store',
    KVIDX_DATABASE: 'bills',
    KVIDX_ENGINE: 'LMDB',
    KVIDX_SYNC_MODE: 'Off',
    KVIDX_JOURNAL_MODE: 'Delete',
    KVIDX_CACHE_SIZE: '128Mi',
    KVIDX_BUSY_TIMEOUT: '7s',
    KVIDX_MMAP_SIZE: '2Mi',
    KVIDX_MAP_SIZE: '3Mi',
    KVIDX_COMPRESSION: 'LZ4',
    KVIDX_LOG_LEVEL: 'Debug',
  }
  const root = temporaryDirectory()
  const before = sidecarConfig({
    namespace: 'shop',
    name: 'orders',
    spec: withDefaults({ engine: 'SQLite', storage: { size: '1Gi' } } as never) as never,
  })
  for (const name of DATABASE_VARIABLES) {
    const { overlay } = await sidecarOptions(
      { config: 'given', dataDir: join(root, 'volume') },
      new Environment({ [name]: values[name] }),
    )
    expect([name, overlay?.(before)]).not.toEqual([name, before])
  }
})

test.each<[string, (root: string) => SidecarFlags, string]>([
  ['one port for two listeners', () => ({ dataPort: '7401', opsPort: '7401' }), '--ops-port: 7401 of 127.0.0.1'],
  ['a file where the volume should be', root => ({ ...ports, dataDir: join(root, 'file') }), '--data-dir: '],
])('%s is refused by name', async (_what, flags, named) => {
  const root = temporaryDirectory()
  writeFileSync(join(root, 'file'), '')
  const given = { dataDir: join(root, 'volume'), ...flags(root), config: document(join(root, 'config.json')) }
  await expect(sidecarOptions(given, new Environment({}))).rejects.toMatchObject({
    code: 'invalid_parameter',
    message: expect.stringContaining(named),
  })
})

test.each([
  ['a stop', (child: ChildProcess) => child.kill('SIGTERM')],
  // `kvidx run` was killed: nobody would ever stop what it had just started
  ['the end of who started it', (child: ChildProcess) => child.disconnect()],
])('%s is heard while the process starts', { timeout: 30_000 }, async (_what, happens) => {
  const root = temporaryDirectory()
  const pipe = join(root, 'pipe.json')
  execFileSync('mkfifo', [pipe])
  const flags = ['--config', pipe, '--data-dir', join(root, 'volume'), '--data-port', '0', '--ops-port', '0']
  const child = spawn(process.execPath, ['bin/kvidx', 'sidecar', ...flags], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended = once(child, 'exit')
  // somebody opens it to read: it has begun and has no configuration yet
  const configuration = await open(pipe, 'w')
  happens(child)
  const whole = document(join(root, 'config.json'))
  const content = readFileSync(whole)
  renameSync(whole, pipe)
  await configuration.writeFile(content)
  await configuration.close()
  expect(await ended).toEqual([0, null])
})

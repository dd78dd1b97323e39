import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { autoCacheSize, databaseConfigOf } from '../../../sidecar/settings.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'

const MIB = 1024 * 1024

test.each([
  ['no data', 0, 1024, 32],
  ['little data', 200, 1024, 32],
  ['15 % of the data', 400, 1024, 60],
  ['a quarter of the memory at most', 4000, 1024, 256],
  ['the least even where that is more than a quarter', 4000, 100, 32],
])('cacheSize auto is %s', (_what, data, memory, cache) => {
  expect(autoCacheSize(data * MIB, memory * MIB)).toBe(cache * MIB)
})

test('the process looks at the size of its files, below directories, too', async () => {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-cache-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  mkdirSync(join(root, 'db', 'main.rocks'), { recursive: true })
  for (const name of ['db/main.db', 'db/main.rocks/1.sst', 'ballast']) {
    writeFileSync(join(root, name), '')
    truncateSync(join(root, name), 200 * MIB)
  }
  const cacheOf = async (cacheSize: string) => {
    const spec = withDefaults({ engine: 'SQLite', storage: { size: '1Gi' }, tuning: { cacheSize } } as never) as never
    const options = {
      configFile: '',
      dataDirectory: root,
      host: '',
      dataPort: 0,
      opsPort: 0,
      opsHost: '',
      node: '',
      pod: '',
    }
    const config = await databaseConfigOf(sidecarConfig({ namespace: 'default', name: 'orders', spec }), options)
    return config.tuning.cacheSize
  }
  expect(await cacheOf('auto')).toBe(60 * MIB)
  expect(await cacheOf('48Mi')).toBe(48 * MIB)
})

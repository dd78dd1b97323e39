import { existsSync, globSync } from 'node:fs'
import { basename } from 'node:path'
import { describe, expect, test } from 'vitest'
import { launcherUrl, locate, workerUrl } from '../../../src/common/worker-url.ts'

describe('workerUrl', () => {
  test('is the source file when run from the sources', () => {
    const path = 'sidecar/engine/sqlite/reader.worker'
    expect(workerUrl(path).href).toBe(new URL(`../../../${path}.ts`, import.meta.url).href)
  })

  test('is the file of that name beside the chunk when run from the bundle', () => {
    for (const asking of ['file:///app/dist/kvidx.js', 'file:///app/dist/chunk-ABC.js']) {
      expect(locate('sidecar/engine/sqlite/reader.worker', asking).href).toBe('file:///app/dist/reader.worker.js')
    }
  })

  test('refuses a path that the bundle could not have', () => {
    for (const path of ['reader.worker', '../x.worker', 'sidecar/reader.ts', 'test/x.worker', 'sidecar/x.worker.ts']) {
      expect(() => locate(path, 'file:///app/dist/kvidx.js'), path).toThrow(/is not of the form/)
    }
  })

  test('leads to one file: no two workers have the same name', () => {
    const names = globSync('{src,sidecar}/**/*.worker.ts').map(path => basename(path))
    expect(names.toSorted()).toEqual([...new Set(names)].toSorted())
  })
})

test('launcherUrl is bin/kvidx of the checkout or of the image', () => {
  expect(existsSync(launcherUrl())).toBe(true)
  expect(launcherUrl('file:///app/dist/chunk-ABC.js').href).toBe('file:///app/bin/kvidx')
})

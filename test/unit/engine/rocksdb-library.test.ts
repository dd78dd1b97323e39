import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { rocksLibraryPath } from '../../../sidecar/engine/native/library.ts'
import { rocksErrorCode } from '../../../sidecar/engine/rocksdb/failure.ts'

describe("finding RocksDB's library", () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'kvidx-library-'))
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  test('the setting wins over every place', () => {
    const set = join(root, 'mine.so')
    writeFileSync(set, '')
    writeFileSync(join(root, 'librocksdb.so.7.8'), '')
    expect(rocksLibraryPath(set, [root])).toBe(set)
  })

  test('a setting that names nothing is an error, not a search', () => {
    writeFileSync(join(root, 'librocksdb.so.7.8'), '')
    expect(() => rocksLibraryPath(join(root, 'gone.so'), [root])).toThrow(
      expect.objectContaining({
        code: 'engine_unavailable',
        details: expect.objectContaining({ field: 'KVIDX_ROCKSDB_LIBRARY' }),
      }),
    )
  })

  test('the first place that has version 7.8 is taken; other versions are passed over', () => {
    const [first, second] = [join(root, 'a'), join(root, 'b')]
    mkdirSync(first)
    mkdirSync(second)
    writeFileSync(join(first, 'librocksdb.so.9.10'), '')
    writeFileSync(join(first, 'librocksdb.so'), '')
    writeFileSync(join(second, 'librocksdb.so.7.8.3'), '')
    expect(rocksLibraryPath('', [join(root, 'none'), first, second])).toBe(join(second, 'librocksdb.so.7.8.3'))
  })

  test('when it is nowhere the error says what to install and what to set', () => {
    expect(() => rocksLibraryPath('', [root])).toThrow(/librocksdb7\.8.*KVIDX_ROCKSDB_LIBRARY/)
  })
})

test.each([
  [
    'IO error: No space left on device: While appending to file: /data/db/main.rocks/000012.log: No space left on device',
    'no_space',
  ],
  ['IO error: While lock file: /d/LOCK: Resource temporarily unavailable', 'locked'],
  ['IO error: lock hold by current process, acquire time 1 acquiring thread 2: /d/LOCK: No locks available', 'locked'],
  ['Corruption: block checksum mismatch: stored = 1, computed = 2', 'engine_corrupt'],
  ['Invalid argument: Compression type LZ4 is not linked with the binary.', 'setting_unsupported'],
  ['IO error: While fdatasync: /data/db/main.rocks/000012.log: Input/output error', 'engine_io'],
])("RocksDB's message '%s' is %s", (message, code) => {
  expect(rocksErrorCode(message)).toBe(code)
})

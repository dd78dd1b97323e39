import { describe, test } from 'vitest'
import { rocksLibraryPath } from '../../../sidecar/engine/native/library.ts'

/**
 * Tests that need RocksDB's library from the system. Where it is missing they are skipped, visibly, and the reason says what to
 * install; on a build machine (CI=true) a missing library is a failure.
 */
export function describeWithRocksdb(name: string, body: () => void): void {
  const missing = whyMissing()
  if (missing === undefined) return void describe(name, body)
  if (process.env.CI === 'true') {
    return void test(`${name}: RocksDB's library is installed`, () => {
      throw new Error(missing)
    })
  }
  console.warn(`SKIPPED: ${name}: ${missing}`)
  describe.skip(`${name} (SKIPPED: RocksDB's library is not installed)`, body)
}

/** For tests of several engines in one table; that it is missing is said by `describeWithRocksdb`. */
export const rocksdbIsThere: boolean = whyMissing() === undefined

function whyMissing(): string | undefined {
  try {
    rocksLibraryPath()
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

import { describe, test } from 'vitest'
import { libraryPath, type NativeLibrary } from '../../../sidecar/engine/native/library.ts'

/**
 * Tests that need a library of the system. Where it is missing they are skipped, visibly, and the reason says what to install; on a
 * build machine (CI=true) a missing library is a failure.
 */
export function describeWith(library: NativeLibrary, name: string, body: () => void): void {
  const missing = whyMissing(library)
  if (missing === undefined) return void describe(name, body)
  if (process.env.CI === 'true') {
    return void test(`${name}: the library of ${library} is installed`, () => {
      throw new Error(missing)
    })
  }
  console.warn(`SKIPPED: ${name}: ${missing}`)
  describe.skip(`${name} (SKIPPED: no library of ${library})`, body)
}

function whyMissing(library: NativeLibrary): string | undefined {
  try {
    libraryPath(library)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

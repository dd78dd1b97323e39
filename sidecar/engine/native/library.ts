import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { environment } from '../../../src/common/environment.ts'
import { KvidxError } from '../../../src/common/errors.ts'

/** Libraries that the system provides. */
export type NativeLibrary = 'rocksdb' | 'lmdb'

interface Search {
  readonly setting: 'KVIDX_ROCKSDB_LIBRARY' | 'KVIDX_LMDB_LIBRARY'
  /** File names, best first. */
  readonly names: readonly RegExp[]
  readonly install: string
}

const SEARCH: Readonly<Record<NativeLibrary, Search>> = {
  rocksdb: {
    setting: 'KVIDX_ROCKSDB_LIBRARY',
    names: [/^librocksdb\.so\.7\.8(\.\d+)?$/, /^librocksdb\.7\.8(\.\d+)?\.dylib$/, /^librocksdbjni-.*\.(so|jnilib)$/],
    install:
      "install RocksDB 7.8 (Debian 12: 'apt-get install librocksdb7.8'; elsewhere the library inside Maven's org.rocksdb:rocksdbjni:7.8.3)",
  },
  lmdb: {
    setting: 'KVIDX_LMDB_LIBRARY',
    names: [/^liblmdb\.so\.0(\.\d+)*$/, /^liblmdb\.so$/, /^liblmdb\.dylib$/],
    install: "install LMDB 0.9 (Debian, Ubuntu: 'apt-get install liblmdb0'; macOS: 'brew install lmdb')",
  },
}

const ARCHITECTURE: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }

/** Where systems keep shared libraries. */
function places(): string[] {
  const machine = ARCHITECTURE[process.arch] ?? process.arch
  return [
    `/usr/local/lib/${machine}-linux-gnu`,
    '/usr/local/lib',
    `/usr/lib/${machine}-linux-gnu`,
    `/lib/${machine}-linux-gnu`,
    '/usr/lib64',
    '/usr/lib',
    '/opt/homebrew/lib',
  ]
}

/**
 * The path of a shared library: what the setting names, else the usual names in the usual places.
 * Error: `engine_unavailable`, saying what was looked for and what to install.
 */
export function libraryPath(
  library: NativeLibrary,
  setting: string | undefined = environment.read(SEARCH[library].setting),
  directories: readonly string[] = places(),
): string {
  const search = SEARCH[library]
  if (setting) {
    if (existsSync(setting)) return setting
    throw new KvidxError(
      'engine_unavailable',
      `${search.setting} is ${setting}, which does not exist; ${search.install}`,
      {
        field: search.setting,
        value: setting,
      },
    )
  }
  for (const directory of directories) {
    const entries = list(directory)
    for (const name of search.names) {
      const found = entries.find(entry => name.test(entry))
      if (found) return join(directory, found)
    }
  }
  throw new KvidxError(
    'engine_unavailable',
    `the shared library of ${library} is in none of ${directories.join(', ')}; ${search.install}, or set ${search.setting} to its path`,
    { field: search.setting },
  )
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch {
    return []
  }
}

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { environment } from '../../../src/common/environment.ts'
import { KvidxError } from '../../../src/common/errors.ts'

const SETTING = 'KVIDX_ROCKSDB_LIBRARY'

/** File names, best first. Only the last does not carry the version, which is checked once a database is open. */
const NAMES = [/^librocksdb\.so\.7\.8(\.\d+)?$/, /^librocksdb\.7\.8(\.\d+)?\.dylib$/, /^librocksdbjni-.*\.(so|jnilib)$/]

const INSTALL =
  "install RocksDB 7.8 (Debian 12: 'apt-get install librocksdb7.8'; elsewhere the library inside Maven's org.rocksdb:rocksdbjni:7.8.3)"

const MACHINES: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }

/** Where systems keep shared libraries. */
function places(): string[] {
  const machine = MACHINES[process.arch] ?? process.arch
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
 * The path of RocksDB's shared library: what the setting KVIDX_ROCKSDB_LIBRARY names, else the usual names in the usual places.
 * Error: `engine_unavailable`, saying what was looked for and what to install.
 */
export function rocksLibraryPath(
  setting: string | undefined = environment.read(SETTING),
  directories: readonly string[] = places(),
): string {
  if (setting) {
    if (existsSync(setting)) return setting
    throw new KvidxError('engine_unavailable', `${SETTING} is ${setting}, which does not exist; ${INSTALL}`, {
      field: SETTING,
      value: setting,
    })
  }
  for (const directory of directories) {
    const entries = list(directory)
    for (const name of NAMES) {
      const found = entries.find(entry => name.test(entry))
      if (found) return join(directory, found)
    }
  }
  throw new KvidxError(
    'engine_unavailable',
    `RocksDB's shared library is in none of ${directories.join(', ')}; ${INSTALL}, or set ${SETTING} to its path`,
    { field: SETTING },
  )
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch {
    return []
  }
}

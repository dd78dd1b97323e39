import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import type { EngineOptions, EngineTuning } from '../engine.ts'
import { ROCKSDB_VERSION, type RocksLibrary, rocksLibrary } from './binding.ts'
import { closeFamilies, listFamilies, type OpenFamilies, openFamilies } from './families.ts'
import { Gate } from './gate.ts'
import { FAMILIES, OpenOptions } from './options.ts'
import type { RocksHandles } from './session.ts'
import { volumeBytes } from './space.ts'

/** The database's directory inside `/data/db`. */
export const DIRECTORY = 'main.rocks'

export interface OpenDatabase extends OpenFamilies {
  readonly handles: RocksHandles
  /** "7.8.3" */
  readonly version: string
}

/** Opens or creates `<directory>/main.rocks`. Errors: `locked`, `engine_corrupt`, `no_space`, `setting_unsupported`, `engine_unavailable`, `engine_io`. */
export function openDatabase({ directory, tuning }: EngineOptions): OpenDatabase {
  const library = rocksLibrary()
  const path = join(directory, DIRECTORY)
  checkFamilies(library, path)
  const opened = openCompressed(library, path, tuning)
  const [, records = 0, expiry = 0, changes = 0, meta = 0] = opened.families
  const version = writtenVersion(path)
  if (version.startsWith(`${ROCKSDB_VERSION}.`)) {
    const handles = { database: opened.database, records, expiry, changes, meta, gate: Gate.allocate() }
    return { ...opened, handles, version }
  }
  closeFamilies(library, opened)
  throw new KvidxError(
    'engine_unavailable',
    `the RocksDB library is version ${version}; ${ROCKSDB_VERSION} is needed`,
    { version },
  )
}

/** Without a wish LZ4, or no compression where the library lacks it. */
function openCompressed(library: RocksLibrary, path: string, tuning: EngineTuning): OpenFamilies {
  if (tuning.compression !== undefined) return openWith(library, path, tuning, tuning.compression)
  try {
    return openWith(library, path, tuning, 'LZ4')
  } catch (error) {
    if (!(error instanceof KvidxError) || error.code !== 'setting_unsupported') throw error
    return openWith(library, path, tuning, 'None')
  }
}

function openWith(
  library: RocksLibrary,
  path: string,
  tuning: EngineTuning,
  compression: NonNullable<EngineTuning['compression']>,
): OpenFamilies {
  const options = new OpenOptions(library, tuning, compression, volumeBytes(join(path, '..')))
  try {
    return openFamilies(library, { path, names: FAMILIES, database: options.database, families: options.families })
  } finally {
    options.free()
  }
}

/** A database of another program, or of a newer version of ours, is not touched. */
function checkFamilies(library: RocksLibrary, path: string): void {
  if (!existsSync(join(path, 'CURRENT'))) return
  const found = listFamilies(library, path)
  const known: readonly string[] = FAMILIES
  const strange = found.filter(family => !known.includes(family))
  // Fewer families are a creation that was cut short, unless there is data: kvidxkit's directories are imported, never opened.
  if (strange.length === 0 && (found.length === known.length || isEmptyCreation(path))) return
  throw new KvidxError(
    'engine_corrupt',
    `${path} is not a database of this program: its column families are ${found.join(', ')}, expected ${known.join(', ')}`,
    { families: found, foreign: strange.length > 0 },
  )
}

function isEmptyCreation(path: string): boolean {
  return !readdirSync(path).some(file => /\.(sst|log)$/.test(file) && statSync(join(path, file)).size > 0)
}

/** RocksDB writes its version into the OPTIONS file at each open; its C API does not tell. */
function writtenVersion(path: string): string {
  const newest = readdirSync(path)
    .filter(file => /^OPTIONS-\d+$/.test(file))
    .sort((a, b) => Number(a.slice(8)) - Number(b.slice(8)))
    .at(-1)
  if (newest === undefined) return 'unknown'
  return /^\s*rocksdb_version=(\S+)/m.exec(readFileSync(join(path, newest), 'utf8'))?.[1] ?? 'unknown'
}

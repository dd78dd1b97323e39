import { constants } from 'node:fs'
import { copyFile, mkdtemp, readdir, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import { rocksLibrary } from '../../engine/rocksdb/binding.ts'
import { Cursor } from '../../engine/rocksdb/cursor.ts'
import { closeFamilies, listFamilies, openFamilies } from '../../engine/rocksdb/families.ts'
import { Gate } from '../../engine/rocksdb/gate.ts'
import { Session } from '../../engine/rocksdb/session.ts'
import { type BareRecord, DirectorySource, type Expiry } from './directory-source.ts'
import type { RecordSource } from './record-source.ts'

/** In front of a record's data: term and cmd. */
const HEADER = 16
/** "\0TTL", followed by the record's key. These keys stand among those of the records. */
const EXPIRY_PREFIX = Uint8Array.of(0x00, 0x54, 0x54, 0x4c)
const EXPIRY_KEY = 12

/**
 * Reads a kvidxkit RocksDB directory, record by record in unsigned key order. RocksDB writes into what it opens, so a copy in
 * `scratch` (default: the system's) is opened; table files never change and are only linked there.
 * Errors: `invalid_body` when it is not kvidxkit's, `engine_corrupt`, `engine_io`, `engine_unavailable`, `conflict` when it changes meanwhile.
 */
export async function openRocksdbDirectory(
  directory: string,
  options: { readonly scratch?: string } = {},
): Promise<RecordSource> {
  const library = rocksLibrary()
  const copy = await copyDirectory(directory, options.scratch ?? tmpdir())
  try {
    const families = listFamilies(library, copy)
    if (families.length !== 1) {
      throw new KvidxError(
        'invalid_body',
        `${directory} is a RocksDB database, but not one of kvidxkit: its column families are ${families.join(', ')}`,
        { path: directory },
      )
    }
    const reader = openReadOnly(copy)
    return new DirectorySource({
      kind: 'rocksdb',
      records: () => records(reader, directory),
      expiries: () => expiries(reader, directory),
      async close() {
        reader.close()
        await rm(copy, { recursive: true, force: true })
      },
    })
  } catch (thrown) {
    await rm(copy, { recursive: true, force: true })
    throw thrown
  }
}

interface ReadOnly {
  readonly session: Session
  readonly cursors: Set<Cursor>
  close(): void
}

function openReadOnly(path: string): ReadOnly {
  const library = rocksLibrary()
  const options = library.rocksdb_options_create()
  const opened = openFamilies(library, {
    path,
    names: ['default'],
    database: options,
    families: [options],
    readOnly: true,
  })
  library.rocksdb_options_destroy(options)
  const [family = 0] = opened.families
  const { database } = opened
  const gate = Gate.allocate()
  const session = new Session({ database, records: family, expiry: family, changes: family, meta: family, gate })
  const cursors = new Set<Cursor>()
  return {
    session,
    cursors,
    close() {
      // A generator that was left half-way still holds its iterator.
      for (const cursor of cursors) cursor.close()
      session.end()
      closeFamilies(library, opened)
    },
  }
}

function* records(reader: ReadOnly, directory: string): Generator<BareRecord> {
  for (const cursor of walk(reader, new Cursor(reader.session, reader.session.handles.records, { fillCache: false }))) {
    const length = cursor.loadKey()
    if (length === EXPIRY_KEY && isExpiry(cursor)) continue
    if (length !== 8) throw strange(directory, `a key has ${length} bytes`)
    const key = cursor.key64()
    const value = cursor.value()
    if (value.length < HEADER) throw strange(directory, `the value of key ${key} has ${value.length} bytes`)
    const view = new DataView(value.buffer, value.byteOffset, value.length)
    yield { key, term: view.getBigUint64(0, true), cmd: view.getBigUint64(8, true), data: value.subarray(HEADER) }
  }
}

function* expiries(reader: ReadOnly, directory: string): Generator<Expiry> {
  const lower = new Uint8Array(EXPIRY_KEY)
  const upper = new Uint8Array(EXPIRY_KEY).fill(0xff)
  lower.set(EXPIRY_PREFIX)
  upper.set(EXPIRY_PREFIX)
  const bounds = { lower, upper, fillCache: false }
  for (const cursor of walk(reader, new Cursor(reader.session, reader.session.handles.expiry, bounds))) {
    // Records with such keys stand between the expiries.
    if (cursor.loadKey() !== EXPIRY_KEY) continue
    const key = cursor.key64(4)
    const value = cursor.value()
    if (value.length !== 8) throw strange(directory, `the expiry of key ${key} has ${value.length} bytes`)
    yield { key, expiresAt: new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true) }
  }
}

function* walk(reader: ReadOnly, cursor: Cursor): Generator<Cursor> {
  reader.cursors.add(cursor)
  try {
    while (cursor.next()) yield cursor
  } finally {
    reader.cursors.delete(cursor)
    cursor.close()
  }
}

/** The loaded key begins with the prefix of expiries. */
function isExpiry(cursor: Cursor): boolean {
  return cursor.key64() >> 32n === 0x0054_544cn
}

function strange(directory: string, what: string): KvidxError {
  return new KvidxError('engine_corrupt', `${directory} is not as kvidxkit writes it: ${what}`, { path: directory })
}

async function copyDirectory(directory: string, scratch: string): Promise<string> {
  let copy: string | undefined
  try {
    const before = await fingerprint(directory)
    copy = await mkdtemp(join(scratch, 'rocksdb-'))
    for (const name of before.keys()) {
      const from = resolve(directory, name)
      if (name.endsWith('.sst')) await symlink(from, join(copy, name))
      else await copyFile(from, join(copy, name), constants.COPYFILE_FICLONE)
    }
    const after = await fingerprint(directory)
    for (const [name, was] of before) {
      if (after.get(name) === was) continue
      throw new KvidxError(
        'conflict',
        `${join(directory, name)} changed while it was copied: close the program that has the database open`,
        { path: directory },
      )
    }
    return copy
  } catch (thrown) {
    if (copy !== undefined) await rm(copy, { recursive: true, force: true })
    if (thrown instanceof KvidxError) throw thrown
    throw new KvidxError('engine_io', `${directory} cannot be copied: ${String(thrown)}`, { path: directory }, thrown)
  }
}

/** Files of the database; LOCK and the logs in words (LOG) are of no use. */
async function fingerprint(directory: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const name of await readdir(directory)) {
    if (!/^(CURRENT|IDENTITY|MANIFEST-\d+|OPTIONS-\d+|\d+\.(sst|log|blob))$/.test(name)) continue
    const { size, mtimeNs } = await stat(join(directory, name), { bigint: true })
    found.set(name, `${size} ${mtimeNs}`)
  }
  return found
}

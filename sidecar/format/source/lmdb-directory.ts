import { join } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import { type BareRecord, DirectorySource, type Expiry } from './directory-source.ts'
import { LmdbFile, type LmdbTree } from './lmdb-file.ts'
import type { RecordSource } from './record-source.ts'

/** In front of a record's data: term and cmd. */
const HEADER = 16

/**
 * Reads a kvidxkit LMDB directory, record by record in unsigned key order. Nothing is written, and no library is needed: the file is read as what it is,
 * so that a damaged one is an error and not a crash. `scratch` is not used.
 * Errors: `invalid_body` when it is not kvidxkit's, `engine_corrupt`, `engine_io`, `conflict` when it changes while it is read.
 */
export async function openLmdbDirectory(
  directory: string,
  _options: { readonly scratch?: string } = {},
): Promise<RecordSource> {
  const file = LmdbFile.open(join(directory, 'data.mdb'))
  try {
    const data = file.tree('_kvidx_data')
    const expiry = file.tree('_kvidx_ttl')
    if (!data)
      throw new KvidxError('invalid_body', `${directory} is an LMDB database, but not one of kvidxkit`, {
        path: directory,
      })
    return new DirectorySource({
      kind: 'lmdb',
      count: Number(data.entries),
      *records(): Generator<BareRecord> {
        for (const { key, value } of entries(file, data)) {
          // kvidxkit reads a shorter value as an empty record.
          const whole = value.length >= HEADER
          const view = new DataView(value.buffer, value.byteOffset, value.length)
          yield {
            key,
            term: whole ? view.getBigUint64(0, true) : 0n,
            cmd: whole ? view.getBigUint64(8, true) : 0n,
            data: value.subarray(HEADER),
          }
        }
        file.checkUnchanged()
      },
      *expiries(): Generator<Expiry> {
        if (!expiry) return
        for (const { key, value } of entries(file, expiry)) {
          if (value.length !== 8) throw file.damaged(`the expiry of key ${key} has ${value.length} bytes`)
          yield { key, expiresAt: new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true) }
        }
      },
      close: () => file.close(),
    })
  } catch (thrown) {
    file.close()
    throw thrown
  }
}

function* entries(file: LmdbFile, tree: LmdbTree): Generator<{ key: bigint; value: Uint8Array }> {
  let previous = -1n
  for (const { key, value } of file.entries(tree)) {
    if (key.length !== 8) throw file.damaged(`a key has ${key.length} bytes`)
    const number = new DataView(key.buffer, key.byteOffset, 8).getBigUint64(0, true)
    if (number <= previous) throw file.damaged(`key ${number} stands behind ${previous}`)
    previous = number
    yield { key: number, value }
  }
}

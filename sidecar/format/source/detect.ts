import { BINARY_MAGIC } from '../binary-writer.ts'
import type { SourceKind } from './record-source.ts'
import { SQLITE_MAGIC } from './sqlite-copy.ts'

/** Bytes of the beginning that are enough to tell. */
export const DETECT_BYTES = 256

export type Compression = 'gzip' | 'zstd'

/** Compression by its first bytes. */
export function detectCompression(start: Uint8Array): Compression | undefined {
  if (start[0] === 0x1f && start[1] === 0x8b) return 'gzip'
  if (start[0] === 0x28 && start[1] === 0xb5 && start[2] === 0x2f && start[3] === 0xfd) return 'zstd'
  return undefined
}

/** The kind of a file or stream by its first bytes, never by its name; undefined: none that is known. */
export function detectFile(start: Uint8Array): Exclude<SourceKind, 'rocksdb' | 'lmdb'> | undefined {
  const bytes = Buffer.from(start.buffer, start.byteOffset, start.byteLength)
  if (bytes.length >= 8 && bytes.subarray(0, 8).equals(BINARY_MAGIC)) return 'binary'
  if (bytes.subarray(0, SQLITE_MAGIC.length).equals(SQLITE_MAGIC)) return 'sqlite'
  const text = bytes.toString('latin1').replace(/^\xef\xbb\xbf/, '')
  if (/^(?:key|"key"),/.test(text)) return 'csv'
  // a line of NDJSON begins with its key (or is the closing line); a document never does
  if (/^\s*\{\s*"(?:key|end)"/.test(text)) return 'ndjson'
  if (/^\s*\{/.test(text)) return 'json'
  return undefined
}

/** The kind of a database directory by the names in it. */
export function detectDirectory(names: readonly string[]): 'rocksdb' | 'lmdb' | undefined {
  if (names.includes('CURRENT') && names.some(name => name.startsWith('MANIFEST-'))) return 'rocksdb'
  if (names.includes('data.mdb')) return 'lmdb'
  return undefined
}

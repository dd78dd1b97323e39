import { crc32c } from '@node-rs/crc32'
import { KvidxError } from '../../src/common/errors.ts'
import type { Key, KeyRange, StoredRecord } from '../engine/engine.ts'
import { Bytes } from './bytes.ts'
import { CANONICAL_HEADER, digestOfCanonical, readDigest, writeCanonical, writeDigest } from './digest.ts'
import type { Position } from './operation.ts'

/** Commit frames: docs/formats.md, section 2. */

export const FRAME_HEADER = 40
export const FRAME_TRAILER = 32
/** Length and checksum, which the length does not count. */
export const FRAME_PREFIX = 8
/** A frame holds one commit, and commits are bounded, so more is damage. */
export const MAX_FRAME_BYTES = 1024 * 1024 * 1024
/** What one request may come to in a frame, whatever the limits are: SQLite stores at most 10^9 bytes in one place, and others of its group come before it. */
export const MAX_REQUEST_BYTES = 900 * 1024 * 1024
/** Bytes of a put beside its data; no other change takes more. */
export const PUT_OVERHEAD = 5 + CANONICAL_HEADER

export const CHANGE = { put: 1, remove: 2, removeRange: 3, expiry: 4 } as const

export type Change =
  | { readonly kind: 'put'; readonly record: StoredRecord }
  | { readonly kind: 'remove'; readonly key: Key }
  | { readonly kind: 'removeRange'; readonly range: KeyRange; readonly removed: bigint }
  | { readonly kind: 'expiry'; readonly key: Key; readonly expiresAt: bigint }

/** What the database holds after a commit. */
export interface StateAfter {
  readonly count: bigint
  readonly dataBytes: bigint
  readonly digest: bigint
}

export interface FrameHeader {
  readonly epoch: bigint
  readonly firstSeq: bigint
  readonly lastSeq: bigint
  /** Unix ms */
  readonly time: bigint
  readonly changeCount: number
  readonly after: StateAfter
}

/** Collects the changes of one commit and makes its frame. Reusable: `reset` keeps the buffer. */
export class FrameBuilder {
  #bytes = new Bytes(256 * 1024)
  #length = FRAME_HEADER
  #count = 0

  get changeCount(): number {
    return this.#count
  }

  /** Bytes so far, header included. */
  get byteLength(): number {
    return this.#length
  }

  reset(): void {
    if (this.#bytes.length > 16 * 1024 * 1024) this.#bytes = new Bytes(256 * 1024)
    this.#length = FRAME_HEADER
    this.#count = 0
  }

  /** A point to go back to with `rewind`. */
  mark(): { length: number; count: number } {
    return { length: this.#length, count: this.#count }
  }

  rewind(mark: { length: number; count: number }): void {
    this.#length = mark.length
    this.#count = mark.count
  }

  /** Adds a put and returns the record's digest, taken from the bytes just written. */
  put(record: StoredRecord): bigint {
    const at = this.#reserve(5 + CANONICAL_HEADER + record.data.length)
    const { buffer, view } = this.#bytes
    buffer[at] = CHANGE.put
    view.setUint32(at + 1, record.data.length, true)
    const end = writeCanonical(this.#bytes, at + 5, record)
    this.#length = end
    this.#count++
    return digestOfCanonical(buffer.subarray(at + 5, end))
  }

  remove(key: Key): void {
    this.#add(CHANGE.remove, key)
  }

  removeRange(range: KeyRange, removed: bigint): void {
    this.#add(CHANGE.removeRange, range.start, range.end, removed)
  }

  expiry(key: Key, expiresAt: bigint): void {
    this.#add(CHANGE.expiry, key, expiresAt)
  }

  /** The finished frame; it lies in this builder's buffer until the next `reset`. */
  finish(first: Position, time: bigint, after: StateAfter): Buffer {
    const trailer = this.#reserve(FRAME_TRAILER)
    const { buffer, view } = this.#bytes
    view.setBigUint64(trailer, after.count, true)
    view.setBigUint64(trailer + 8, after.dataBytes, true)
    writeDigest(view, trailer + 16, after.digest)
    const end = trailer + FRAME_TRAILER
    view.setUint32(0, end - FRAME_PREFIX, true)
    view.setBigUint64(8, first.epoch, true)
    view.setBigUint64(16, first.seq, true)
    view.setBigUint64(24, time, true)
    view.setUint32(32, this.#count, true)
    view.setUint32(36, 0, true)
    view.setUint32(4, crc32c(buffer.subarray(FRAME_PREFIX, end)), true)
    return buffer.subarray(0, end)
  }

  #add(kind: number, ...fields: bigint[]): void {
    const at = this.#reserve(1 + 8 * fields.length)
    this.#bytes.buffer[at] = kind
    this.#length = this.#bytes.writeU64(at + 1, ...fields)
    this.#count++
  }

  #reserve(bytes: number): number {
    const needed = this.#length + bytes + FRAME_TRAILER
    if (needed > this.#bytes.length) {
      const larger = new Bytes(Math.max(needed, this.#bytes.length * 2))
      this.#bytes.buffer.copy(larger.buffer, 0, 0, this.#length)
      this.#bytes = larger
    }
    return this.#length
  }
}

/** Length of the frame that begins at `offset`, prefix included; undefined while its first four bytes are not there. */
export function frameLength(source: Buffer, offset: number): number | undefined {
  if (source.length - offset < 4) return undefined
  const length = source.readUInt32LE(offset) + FRAME_PREFIX
  if (length < FRAME_HEADER + FRAME_TRAILER || length > MAX_FRAME_BYTES)
    throw damaged(offset, `has a length of ${length} bytes`)
  return length
}

/** Checks length, checksum and structure of one whole frame and reads its header. Errors: backup_corrupt naming the offset. */
export function readFrameHeader(frame: Buffer): FrameHeader {
  const length = frameLength(frame, 0)
  if (length !== frame.length) throw damaged(0, `says ${length ?? '?'} bytes where there are ${frame.length}`)
  const crc = crc32c(frame.subarray(FRAME_PREFIX))
  if (crc !== frame.readUInt32LE(4)) throw damaged(0, 'has a wrong checksum')
  return headerOf(frame)
}

/** Like readFrameHeader, without the checksum: for frames that were just made or checked. */
export function headerOf(frame: Buffer): FrameHeader {
  const changeCount = frame.readUInt32LE(32)
  const firstSeq = frame.readBigUInt64LE(16)
  if (frame.readUInt32LE(36) !== 0) throw damaged(36, 'has a value other than 0 in its reserved field')
  const trailer = frame.length - FRAME_TRAILER
  return {
    epoch: frame.readBigUInt64LE(8),
    firstSeq,
    lastSeq: changeCount === 0 ? firstSeq : firstSeq + BigInt(changeCount) - 1n,
    time: frame.readBigUInt64LE(24),
    changeCount,
    after: {
      count: frame.readBigUInt64LE(trailer),
      dataBytes: frame.readBigUInt64LE(trailer + 8),
      digest: readDigest(frame, trailer + 16),
    },
  }
}

/** Walks the changes of a checked frame. A put's data lies in the frame. Errors: backup_corrupt naming the offset. */
export function* changesOf(frame: Buffer): Generator<Change> {
  const end = frame.length - FRAME_TRAILER
  let at = FRAME_HEADER
  const need = (bytes: number) => {
    if (end - at < bytes) throw damaged(at, `ends inside a change that needs ${bytes} bytes`)
  }
  const count = frame.readUInt32LE(32)
  for (let i = 0; i < count; i++) {
    need(1)
    const kind = frame[at]
    if (kind === CHANGE.put) {
      need(5)
      const length = frame.readUInt32LE(at + 1)
      need(5 + CANONICAL_HEADER + length)
      const record = readCanonical(frame, at + 5, length)
      at += 5 + CANONICAL_HEADER + length
      yield { kind: 'put', record }
    } else if (kind === CHANGE.remove) {
      need(9)
      const key = frame.readBigUInt64LE(at + 1)
      at += 9
      yield { kind: 'remove', key }
    } else if (kind === CHANGE.removeRange) {
      need(25)
      const range = { start: frame.readBigUInt64LE(at + 1), end: frame.readBigUInt64LE(at + 9) }
      const removed = frame.readBigUInt64LE(at + 17)
      at += 25
      yield { kind: 'removeRange', range, removed }
    } else if (kind === CHANGE.expiry) {
      need(17)
      const change = {
        kind: 'expiry',
        key: frame.readBigUInt64LE(at + 1),
        expiresAt: frame.readBigUInt64LE(at + 9),
      } as const
      at += 17
      yield change
    } else throw damaged(at, `has a change of kind ${kind}, which is not known`)
  }
  if (at !== end) throw damaged(at, `has ${end - at} bytes behind its last change`)
}

/** Reads a canonical encoding of `length` data bytes; the data is a view of `source`. */
export function readCanonical(source: Buffer, offset: number, length: number): StoredRecord {
  return {
    key: source.readBigUInt64LE(offset),
    term: source.readBigUInt64LE(offset + 8),
    cmd: source.readBigUInt64LE(offset + 16),
    expiresAt: source.readBigUInt64LE(offset + 24),
    data: source.subarray(offset + CANONICAL_HEADER, offset + CANONICAL_HEADER + length),
  }
}

function damaged(offset: number, what: string): KvidxError {
  return new KvidxError('backup_corrupt', `a frame ${what} (offset ${offset})`, { offset })
}

const FILE_MAGIC = Buffer.from('KVIDXCHG')
/** Bytes before the first frame of a change file. */
export const CHANGE_FILE_HEADER = 16

export type ChangeFileContent = 'commits' | 'expiries' | 'operations' | 'records'
const CONTENTS: readonly ChangeFileContent[] = ['commits', 'expiries', 'operations', 'records']

export function changeFileHeader(content: ChangeFileContent): Buffer {
  const header = Buffer.alloc(CHANGE_FILE_HEADER)
  FILE_MAGIC.copy(header)
  header.writeUInt32LE(1, 8)
  header.writeUInt32LE(CONTENTS.indexOf(content) + 1, 12)
  return header
}

/** Errors: backup_corrupt when the header is not that of a change file with this content. */
export function checkChangeFileHeader(header: Buffer, content: ChangeFileContent): void {
  if (header.length < CHANGE_FILE_HEADER)
    throw damagedFile(`has ${header.length} bytes where its header needs ${CHANGE_FILE_HEADER}`)
  if (!header.subarray(0, 8).equals(FILE_MAGIC)) throw damagedFile('does not begin with KVIDXCHG')
  if (header.readUInt32LE(8) !== 1) throw damagedFile(`has format version ${header.readUInt32LE(8)} (known: 1)`)
  const found = CONTENTS[header.readUInt32LE(12) - 1]
  if (found !== content)
    throw damagedFile(`holds ${found ?? `content ${header.readUInt32LE(12)}`} where ${content} were expected`)
}

function damagedFile(what: string): KvidxError {
  return new KvidxError('backup_corrupt', `a change file ${what}`)
}

/** Cuts a byte stream into whole frames, with bounded memory. `push` returns the frames completed by a chunk. */
export class FrameSplitter {
  #pieces: Buffer[] = []
  #have = 0
  /** Bytes that must be there before it pays to join the pieces: joining at every chunk would be quadratic in a large frame. */
  #needed = 4

  push(chunk: Uint8Array): Buffer[] {
    this.#pieces.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    this.#have += chunk.byteLength
    if (this.#have < this.#needed) return []
    const source = this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces)
    const frames: Buffer[] = []
    let at = 0
    for (;;) {
      const length = frameLength(source, at)
      this.#needed = length ?? 4
      if (length === undefined) break
      if (source.length - at < length) break
      frames.push(source.subarray(at, at + length))
      at += length
    }
    // a copy: the chunk belongs to the caller
    this.#pieces = at === source.length ? [] : [Buffer.from(source.subarray(at))]
    this.#have = source.length - at
    return frames
  }

  /** Errors: backup_corrupt when the stream ended inside a frame. */
  end(): void {
    if (this.#have > 0) throw damagedFile(`ends inside a frame (${this.#have} bytes left over)`)
  }
}

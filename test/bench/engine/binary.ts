import { RECORD_HEADER } from './workload.ts'

/** Export and import as one would write them over a raw binding: one buffer, no library. */

const CHUNK = 256 * 1024

/** Gathers records as a BINARY file has them; every full chunk is let go, as a socket would take it. */
export class BinaryFile {
  bytes = 0
  #chunk = Buffer.allocUnsafe(CHUNK)
  #length = 0

  add(key: bigint, term: bigint, cmd: bigint, data: Uint8Array): void {
    const size = RECORD_HEADER + data.length
    if (this.#length + size > CHUNK) {
      this.#chunk = Buffer.allocUnsafe(CHUNK)
      this.#length = 0
    }
    const at = this.#length
    const chunk = this.#chunk
    chunk.writeBigUInt64LE(key, at)
    chunk.writeBigUInt64LE(term, at + 8)
    chunk.writeBigUInt64LE(cmd, at + 16)
    chunk.writeBigUInt64LE(BigInt(data.length), at + 24)
    chunk.set(data, at + RECORD_HEADER)
    this.#length += size
    this.bytes += size
  }
}

/** Visits the records of whole pieces. */
export function* recordsOf(pieces: readonly Uint8Array[]): Generator<{ key: bigint; data: Uint8Array }> {
  for (const piece of pieces) {
    const view = new DataView(piece.buffer, piece.byteOffset, piece.byteLength)
    for (let at = 0; at < piece.length; ) {
      const length = Number(view.getBigUint64(at + 24, true))
      const start = at + RECORD_HEADER
      yield { key: view.getBigUint64(at, true), data: piece.subarray(start, start + length) }
      at = start + length
    }
  }
}

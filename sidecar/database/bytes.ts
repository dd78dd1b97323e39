/** Memory of its own with a view for its integers: Buffer's methods write a u64 byte by byte, which costs five times as much. */
export class Bytes {
  readonly buffer: Buffer
  readonly view: DataView

  constructor(length: number) {
    this.buffer = Buffer.allocUnsafeSlow(length)
    this.view = new DataView(this.buffer.buffer, this.buffer.byteOffset, length)
  }

  get length(): number {
    return this.buffer.length
  }

  /** Little-endian, one behind the other; returns the offset behind them. */
  writeU64(offset: number, ...values: readonly bigint[]): number {
    let at = offset
    for (const value of values) {
      this.view.setBigUint64(at, value, true)
      at += 8
    }
    return at
  }
}

/** What every loop does, ours and the raw binding's: the same keys, the same data, the same commits. */
export interface Workload {
  readonly ascending: readonly bigint[]
  readonly scattered: readonly bigint[]
  readonly lookups: readonly bigint[]
  readonly data: Uint8Array
  /** As long, with other bytes. */
  readonly otherData: Uint8Array
  /** Records of one commit. */
  readonly batch: number
}

/** Scatters `index` over all of u64 (splitmix64's last steps): no two indices give the same key. */
function scatter(index: number): bigint {
  let value = BigInt.asUintN(64, BigInt(index) * 0x9e37_79b9_7f4a_7c15n)
  value = BigInt.asUintN(64, (value ^ (value >> 30n)) * 0xbf58_476d_1ce4_e5b9n)
  value = BigInt.asUintN(64, (value ^ (value >> 27n)) * 0x94d0_49bb_1331_11ebn)
  return value ^ (value >> 31n)
}

export function makeWorkload(records: number, dataBytes: number, batch: number): Workload {
  const ascending = Array.from({ length: records }, (_, index) => BigInt(index + 1))
  const scattered = Array.from({ length: records }, (_, index) => scatter(index))
  const lookups = Array.from({ length: records }, (_, index) => {
    const key = ascending[Number(scatter(index) % BigInt(records))]
    return key ?? 1n
  })
  const data = new Uint8Array(dataBytes).map((_, index) => (index * 31) % 251)
  return { ascending, scattered, lookups, data, otherData: data.map(byte => byte ^ 0xff), batch }
}

/** Bytes of a record in a BINARY file before its data. */
export const RECORD_HEADER = 32

/** One database under one loop. What reads returns the bytes of data read, so that nothing can be optimised away. */
export interface Loop {
  /** Puts new records, `batch` a commit. */
  insert(keys: readonly bigint[], data: Uint8Array, batch: number): Promise<void>
  /** Puts other data in the place of records that are there. */
  overwrite(keys: readonly bigint[], data: Uint8Array, batch: number): Promise<void>
  get(keys: readonly bigint[]): number
  scan(): number
  /** All records as a kvidxkit BINARY file; returns its bytes without the header. */
  exported(): Promise<number>
  /** A BINARY file into an empty database of its own; durable at the end. */
  imported(records: readonly Uint8Array[], count: number, batch: number): Promise<void>
  close(): Promise<void>
}

export interface LoopMaker {
  readonly engine: string
  readonly name: 'raw' | 'ours'
  open(directory: string): Promise<Loop>
}

/** The records of a BINARY file, in pieces as they come from a socket. */
export function binaryRecords(keys: readonly bigint[], data: Uint8Array): Uint8Array[] {
  const pieces: Uint8Array[] = []
  for (let start = 0; start < keys.length; start += 1000) {
    const part = keys.slice(start, start + 1000)
    const bytes = Buffer.alloc(part.length * (RECORD_HEADER + data.length))
    part.forEach((key, index) => {
      const at = index * (RECORD_HEADER + data.length)
      bytes.writeBigUInt64LE(key, at)
      bytes.writeBigUInt64LE(1n, at + 8)
      bytes.writeBigUInt64LE(2n, at + 16)
      bytes.writeBigUInt64LE(BigInt(data.length), at + 24)
      bytes.set(data, at + RECORD_HEADER)
    })
    pieces.push(bytes)
  }
  return pieces
}

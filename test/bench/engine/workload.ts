/** What every loop does, ours and the raw binding's: the same keys, the same data, the same commits. */
export interface Workload {
  readonly ascending: readonly bigint[]
  readonly scattered: readonly bigint[]
  readonly lookups: readonly bigint[]
  readonly data: Uint8Array
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
  return { ascending, scattered, lookups, data, batch }
}

/** One database under one loop. */
export interface Loop {
  insert(keys: readonly bigint[], data: Uint8Array, batch: number): void
  /** Returns the bytes of data read, so that nothing can be optimised away. */
  get(keys: readonly bigint[]): number
  scan(): number
  close(): void
}

export interface LoopMaker {
  readonly engine: string
  readonly name: 'raw' | 'ours'
  open(directory: string): Promise<Loop>
}

import type { KeyRange } from '../engine.ts'
import { Block } from '../native/memory.ts'
import type { Slice } from './compaction.ts'
import { keyBytes } from './cursor.ts'
import { NO_RANGES, type RangeSet, withRange } from './ranges.ts'
import type { Session } from './session.ts'

/** Column families whose entries are removed by range; the expiry index only as a whole, with all records. */
export type RangedFamily = 'records' | 'changes'

export interface Tombstone extends KeyRange {
  readonly family: RangedFamily
}

/** More ranges than this become one that holds them all. */
const MAX_RANGES = 256

/**
 * Ranges that were removed and not compacted since. RocksDB's own estimate of live data does not see what lies under a range tombstone, so without this the
 * space of a trimmed change log would come back only by chance.
 */
export class Removed {
  readonly #session: Session
  readonly #ranges: Record<RangedFamily, RangeSet> = { records: NO_RANGES, changes: NO_RANGES }

  constructor(session: Session) {
    this.#session = session
  }

  add({ family, start, end }: Tombstone): void {
    let set = withRange(this.#ranges[family], { start, end })
    if (set.starts.length > MAX_RANGES) {
      const [first = start] = set.starts
      set = { starts: [first], ends: [set.ends.at(-1) ?? end] }
    }
    this.#ranges[family] = set
  }

  /** Bytes of table files in the ranges, by RocksDB's estimate; what was written there since counts too. */
  bytes(): number {
    return this.#sizes('records') + this.#sizes('changes')
  }

  /** The ranges as work for a compaction, and forgets them. */
  take(): Slice[] {
    const taken: Slice[] = []
    for (const family of ['records', 'changes'] as const) {
      const { starts, ends } = this.#ranges[family]
      starts.forEach((start, index) => {
        const last = keyBytes(ends[index] ?? start)
        taken.push({ family: this.#session.handles[family], first: keyBytes(start), last, bytes: 0 })
      })
      this.#ranges[family] = NO_RANGES
    }
    return taken
  }

  #sizes(family: RangedFamily): number {
    const { starts, ends } = this.#ranges[family]
    const count = starts.length
    if (count === 0) return 0
    const { library, handles, errorSlot } = this.#session
    // Six arrays of `count` words: addresses and lengths of both bounds, sizes; then the bounds themselves.
    const block = new Block(count * (5 * 8 + 16))
    const at = (array: number, index: number): number => array * count + index
    const keys = 5 * 8 * count
    for (let index = 0; index < count; index++) {
      const start = keys + index * 16
      block.data.setBigUint64(start, starts[index] ?? 0n)
      block.data.setBigUint64(start + 8, ends[index] ?? 0n)
      block.words[at(0, index)] = BigInt(block.address + start)
      block.words[at(1, index)] = 8n
      block.words[at(2, index)] = BigInt(block.address + start + 8)
      block.words[at(3, index)] = 8n
    }
    const address = (array: number): number => block.address + array * count * 8
    library.rocksdb_approximate_sizes_cf(
      handles.database,
      handles[family],
      count,
      address(0),
      address(1),
      address(2),
      address(3),
      address(4),
      errorSlot,
    )
    let sum = 0
    for (let index = 0; index < count; index++) sum += Number(block.words[at(4, index)])
    block.free()
    this.#session.check('estimate sizes')
    return sum
  }
}

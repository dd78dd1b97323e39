import type { Key, KeyRange, LogFrame, Packed, ReadView, StoredRecord, Visit } from '../engine.ts'
import { EVERY_KEY } from '../engine.ts'
import { PACKED_HEADER, Packer, setLength } from '../pack.ts'
import { HEADER_BYTES } from './codec.ts'
import type { Environment, ReadTransaction } from './environment.ts'
import { guarded } from './errors.ts'

/** Copies without making an object for the part. */
const { copy } = Buffer.prototype

/**
 * Reads of one moment. `moment` gives the read transaction: a snapshot's own, or none inside a write transaction (the
 * binding then reads in that). A view of the last commit first lets the binding's cached read transaction go.
 */
export class LmdbView implements ReadView {
  protected readonly environment: Environment
  readonly #moment: () => { transaction?: ReadTransaction }

  constructor(environment: Environment, moment: () => { transaction?: ReadTransaction }) {
    this.environment = environment
    this.#moment = moment
  }

  get(key: Key): StoredRecord | undefined {
    return guarded('read a record', () => {
      const value = this.environment.records.get(key, this.#moment())
      return value && { key, ...value }
    })
  }

  scan(range: KeyRange, descending: boolean, visit: Visit<StoredRecord>): number {
    if (range.start > range.end) return 0
    return guarded('scan records', () => {
      const bounds = descending
        ? { start: range.end, end: range.start, reverse: true }
        : { start: range.start, end: range.end }
      let visited = 0
      let bytes = 0
      for (const { key, value } of this.environment.records.getRange({
        ...bounds,
        inclusiveEnd: true,
        ...this.#moment(),
      })) {
        visited++
        bytes += value.data.length
        const record = { key, term: value.term, cmd: value.cmd, data: value.data, expiresAt: value.expiresAt }
        if (visit(record) === false) break
      }
      this.environment.residency.read(bytes)
      return visited
    })
  }

  pack(range: KeyRange, visibleAt: bigint | undefined, target: Uint8Array): Packed {
    const packer = new Packer(target, visibleAt)
    if (range.start > range.end) return packer.result()
    return guarded('pack records', () => {
      const out = new DataView(target.buffer, target.byteOffset, target.byteLength)
      for (const { key, value } of this.environment.rawRecords.getRange({
        ...range,
        inclusiveEnd: true,
        ...this.#moment(),
      })) {
        const { bytes, view } = value
        const dataBytes = bytes.length - HEADER_BYTES
        if (!packer.hasRoomFor(dataBytes)) {
          packer.stop((BigInt(key.high) << 32n) | BigInt(key.low), dataBytes)
          break
        }
        packer.seen++
        if (!packer.isVisible64(view, HEADER_BYTES - 8)) continue
        const at = packer.length
        out.setUint32(at, key.low, true)
        out.setUint32(at + 4, key.high, true)
        // term, cmd, expiresAt and data stand as in a packed record, but for the length in the place of the expiry
        copy.call(bytes, target, at + 8, 0, HEADER_BYTES + dataBytes)
        setLength(out, at + 24, dataBytes)
        packer.length = at + PACKED_HEADER + dataBytes
        packer.records++
      }
      this.environment.residency.read(packer.length)
      return packer.result()
    })
  }

  count(range: KeyRange): number {
    if (range.start > range.end) return 0
    return guarded('count records', () =>
      this.environment.records.getKeysCount({ ...range, inclusiveEnd: true, ...this.#moment() }),
    )
  }

  scanExpiries(until: bigint, limit: number, visit: Visit<{ key: Key; expiresAt: bigint }>): number {
    if (limit <= 0) return 0
    return guarded('scan expiries', () => {
      let visited = 0
      for (const expiry of this.environment.expiries.getKeys({
        start: { expiresAt: 0n, key: 0n },
        end: { expiresAt: until, key: EVERY_KEY.end },
        inclusiveEnd: true,
        limit,
        ...this.#moment(),
      })) {
        visited++
        if (visit(expiry) === false) break
      }
      return visited
    })
  }

  getMeta(name: string): Uint8Array | undefined {
    return guarded('read metadata', () => this.environment.metadata.get(name, this.#moment()))
  }

  scanLog(fromSeq: bigint, visit: Visit<LogFrame>): number {
    return guarded('read the change log', () => {
      const moment = this.#moment()
      const { changes } = this.environment
      // Frames are consecutive, so the last one that begins at or before fromSeq is the first that can hold it.
      let start = 0n
      for (const first of changes.getKeys({
        start: fromSeq,
        end: 0n,
        inclusiveEnd: true,
        reverse: true,
        limit: 1,
        ...moment,
      }))
        start = first
      let visited = 0
      for (const { key, value } of changes.getRange({ start, end: EVERY_KEY.end, inclusiveEnd: true, ...moment })) {
        if (value.lastSeq < fromSeq) continue
        visited++
        if (visit({ firstSeq: key, lastSeq: value.lastSeq, frame: value.frame }) === false) break
      }
      return visited
    })
  }
}

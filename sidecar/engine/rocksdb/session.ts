import { KvidxError } from '../../../src/common/errors.ts'
import { type Address, Block, copyOut, cString } from '../native/memory.ts'
import { type RocksLibrary, rocksLibrary } from './binding.ts'
import { rocksFailure } from './failure.ts'
import { Gate } from './gate.ts'

/** What another thread needs to use the open database: addresses, as plain numbers. */
export interface RocksHandles {
  readonly database: Address
  readonly records: Address
  readonly expiry: Address
  readonly changes: Address
  readonly meta: Address
  /** Shared count of readers: see gate.ts. */
  readonly gate: Address
}

/** Byte offsets in the scratch block. */
const ERROR = 0
const LENGTH = 8
const KEY = 16
const KEY_SIZE = 240

const encoder = new TextEncoder()

/**
 * One thread's way into an open database: the library, the addresses, and scratch memory for arguments and results. Calls are
 * synchronous, so one scratch block serves all of them; whatever outlives a call (a cursor) has its own frame.
 */
export class Session {
  readonly library: RocksLibrary = rocksLibrary()
  readonly handles: RocksHandles
  readonly gate: Gate
  readonly scratch = new Block(KEY + KEY_SIZE)
  /** Where a call puts the address of its message: see `check`. */
  readonly errorSlot: Address = this.scratch.address + ERROR
  /** Where a call puts the length of what it found: see `length`. */
  readonly lengthSlot: Address = this.scratch.address + LENGTH
  /** Where `setKey` and `setName` put their bytes. */
  readonly keyAddress: Address = this.scratch.address + KEY
  readonly #lengths = new Uint32Array(this.scratch.bytes.buffer)
  readonly #frames: Block[] = []
  #open = true
  #cursors = 0

  constructor(handles: RocksHandles) {
    this.handles = handles
    this.gate = new Gate(handles.gate)
  }

  /** Every use of an address goes through here: RocksDB crashes on a database that is closed. */
  ensureOpen(): void {
    if (!this.#open || this.gate.closed) throw new KvidxError('not_ready', 'the RocksDB database is closed')
  }

  /** What the last call wrote into `lengthSlot`, bytes. */
  get length(): number {
    return (this.#lengths[LENGTH / 4] ?? 0) + (this.#lengths[LENGTH / 4 + 1] ?? 0) * 2 ** 32
  }

  /** The key as the database orders it: 8 bytes big-endian. */
  setKey(key: bigint): Address {
    this.scratch.data.setBigUint64(KEY, key)
    return this.keyAddress
  }

  /** Returns the length; the name lies at `keyAddress`. */
  setName(name: string): number {
    const { read, written } = encoder.encodeInto(name, this.scratch.bytes.subarray(KEY, KEY + KEY_SIZE))
    if (read !== name.length)
      throw new KvidxError('internal', `the metadata name ${name} is longer than ${KEY_SIZE} bytes`)
    return written
  }

  /** Throws what the last call left in the error slot. */
  check(doing: string): void {
    if (this.#lengths[ERROR / 4] === 0 && this.#lengths[ERROR / 4 + 1] === 0) return
    const address = Number(this.scratch.words[ERROR / 8])
    this.scratch.words[ERROR / 8] = 0n
    const message = cString(address)
    this.library.rocksdb_free(address)
    throw rocksFailure(message, doing)
  }

  /**
   * Point look-up of the key at `keyAddress`. Returns 0 if it is absent, else a pinned slice, whose value's address and length are
   * given to `use` before it is released.
   */
  lookup<T>(
    family: Address,
    readOptions: Address,
    keyLength: number,
    use: (address: Address, bytes: number) => T,
  ): T | undefined {
    const { library } = this
    const slice = library.rocksdb_get_pinned_cf(
      this.handles.database,
      readOptions,
      family,
      this.keyAddress,
      keyLength,
      this.errorSlot,
    )
    if (slice === 0) {
      this.check('read')
      return undefined
    }
    const address = library.rocksdb_pinnableslice_value(slice, this.lengthSlot)
    const result = use(address, this.length)
    library.rocksdb_pinnableslice_destroy(slice)
    return result
  }

  meta(name: string, readOptions: Address): Uint8Array | undefined {
    const length = this.setName(name)
    return this.lookup(this.handles.meta, readOptions, length, copyOut)
  }

  property(family: Address, name: string): number {
    const length = this.setName(`${name}\0`)
    if (length === 0) return 0
    const failed = this.library.rocksdb_property_int_cf(this.handles.database, family, this.keyAddress, this.lengthSlot)
    return failed === 0 ? this.length : 0
  }

  /** Memory for one cursor; give it back. */
  takeFrame(): Block {
    this.#cursors++
    return this.#frames.pop() ?? new Block(FRAME_SIZE)
  }

  giveFrame(frame: Block): void {
    this.#cursors--
    if (this.#frames.length < 4) this.#frames.push(frame)
    else frame.free()
  }

  /** Error: `internal` while a cursor is open, as when `close` is called from inside a scan. */
  ensureIdle(): void {
    if (this.#cursors > 0)
      throw new KvidxError('internal', `${this.#cursors} scan(s) still run on the RocksDB database`)
  }

  /** Ends this thread's use; the database itself is closed by the writer. */
  end(): void {
    this.#open = false
    for (const frame of this.#frames) frame.free()
    this.#frames.length = 0
  }
}

/** Values up to this size are copied into reused memory, larger ones into an array of their own. */
export const BORROWED_LIMIT = 64 * 1024
export const FRAME_VALUE = 128
export const FRAME_SIZE = FRAME_VALUE + BORROWED_LIMIT

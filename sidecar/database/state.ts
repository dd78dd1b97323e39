import { KvidxError } from '../../src/common/errors.ts'
import { Bytes } from './bytes.ts'
import type { DatabaseState, EpochRecord } from './database.ts'
import { readDigest, writeDigest } from './digest.ts'

/** Names under which the core keeps its metadata in the engine. */
export const META = {
  /** DatabaseState, changed with every commit */
  state: 'state',
  /** Epoch history, JSON */
  epochs: 'epochs',
  /** Consumers of the change log, JSON */
  consumers: 'consumers',
} as const

export const EMPTY_STATE: DatabaseState = {
  position: { epoch: 1n, seq: 0n },
  time: 0n,
  count: 0n,
  dataBytes: 0n,
  digest: 0n,
  expiring: 0n,
  logBase: { epoch: 1n, seq: 0n },
  logBytes: 0n,
}

const STATE_BYTES = 88

/** Fixed layout, so that a read of the position costs two loads: epoch, seq, time, count, dataBytes, digest, expiring, log base, log bytes. Memory of its own: it may be posted as it is. */
export function encodeState(state: DatabaseState): Buffer {
  const bytes = new Bytes(STATE_BYTES)
  const { position, logBase } = state
  bytes.writeU64(0, position.epoch, position.seq, state.time, state.count, state.dataBytes)
  writeDigest(bytes.view, 40, state.digest)
  bytes.writeU64(56, state.expiring, logBase.epoch, logBase.seq, state.logBytes)
  return bytes.buffer
}

/** Errors: engine_corrupt when the bytes are not a state. */
export function decodeState(source: Uint8Array): DatabaseState {
  if (source.length !== STATE_BYTES)
    throw new KvidxError(
      'engine_corrupt',
      `the state of the database has ${source.length} bytes (expected: ${STATE_BYTES})`,
    )
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.byteLength)
  return {
    position: { epoch: bytes.readBigUInt64LE(0), seq: bytes.readBigUInt64LE(8) },
    time: bytes.readBigUInt64LE(16),
    count: bytes.readBigUInt64LE(24),
    dataBytes: bytes.readBigUInt64LE(32),
    digest: readDigest(bytes, 40),
    expiring: bytes.readBigUInt64LE(56),
    logBase: { epoch: bytes.readBigUInt64LE(64), seq: bytes.readBigUInt64LE(72) },
    logBytes: bytes.readBigUInt64LE(80),
  }
}

/** u64 as decimal strings, as everywhere in JSON. */
export function encodeEpochs(epochs: readonly EpochRecord[]): Buffer {
  return Buffer.from(JSON.stringify(epochs, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value)))
}

export function decodeEpochs(source: Uint8Array): EpochRecord[] {
  const list = JSON.parse(Buffer.from(source).toString()) as Array<
    Record<'epoch' | 'forkSeq' | 'time' | 'reason', string> & { parentEpoch?: string }
  >
  return list.map(entry => ({
    epoch: BigInt(entry.epoch),
    ...(entry.parentEpoch !== undefined && { parentEpoch: BigInt(entry.parentEpoch) }),
    forkSeq: BigInt(entry.forkSeq),
    reason: entry.reason as EpochRecord['reason'],
    time: BigInt(entry.time),
  }))
}

import { crc32c } from '@node-rs/crc32'
import { KvidxError } from '../../src/common/errors.ts'
import { Bytes } from './bytes.ts'
import { CANONICAL_HEADER, readDigest, writeCanonical, writeDigest } from './digest.ts'
import {
  CHANGE,
  CHANGE_FILE_HEADER,
  changeFileHeader,
  checkChangeFileHeader,
  FRAME_HEADER,
  FRAME_PREFIX,
  FRAME_TRAILER,
  readCanonical,
  readFrameHeader,
} from './frame.ts'
import type { Condition, ExpiryChange, Operation } from './operation.ts'

/**
 * Operations as bytes: docs/formats.md, section 4. The public binary batch and the messages from the servers' thread to the
 * writer's thread use the same encoding of an operation; the latter adds two kinds that only we use.
 */
const KIND = {
  ...CHANGE,
  append: 5,
  prepend: 6,
  splice: 7,
  ifAbsent: 16,
  ifPresent: 17,
  ifDigest: 18,
  ifTerm: 19,
  /** internal */ returnPrevious: 32,
  /** internal */ expiryAfter: 33,
  /** internal */ optional: 34,
} as const

/** Upper bound of the encoded size of an operation, in bytes. */
export function operationSize(operation: Operation): number {
  return 64 + CANONICAL_HEADER + ('data' in operation ? operation.data.length : 0)
}

/** Writes an operation at `offset`; returns the offset behind it. The target must have operationSize bytes left. */
export function writeOperation(target: Bytes, offset: number, operation: Operation): number {
  const { buffer } = target
  let at = offset
  if (operation.op !== 'removeRange') {
    if (operation.condition) at = writeCondition(target, at, operation.condition)
    if (operation.returnPrevious) buffer[at++] = KIND.returnPrevious
    if (operation.optional) buffer[at++] = KIND.optional
  }
  switch (operation.op) {
    case 'put': {
      const { key, term, cmd, data, expiry } = operation
      if (expiry && 'after' in expiry) at = writeAfter(target, at, expiry.after)
      buffer[at] = KIND.put
      at = writeU32(target, at + 1, data.length)
      return writeCanonical(target, at, { key, term, cmd, data, expiresAt: expiry && 'at' in expiry ? expiry.at : 0n })
    }
    case 'append':
    case 'prepend':
      buffer[at] = KIND[operation.op]
      at = target.writeU64(at + 1, operation.key, operation.term, operation.cmd)
      return writeData(target, at, operation.data)
    case 'splice':
      buffer[at] = KIND.splice
      at = target.writeU64(at + 1, operation.key, BigInt(operation.offset))
      return writeData(target, at, operation.data)
    case 'remove':
      buffer[at] = KIND.remove
      return target.writeU64(at + 1, operation.key)
    case 'expiry': {
      const { expiry } = operation
      if (expiry && 'after' in expiry) at = writeAfter(target, at, expiry.after)
      buffer[at] = KIND.expiry
      return target.writeU64(at + 1, operation.key, expiry && 'at' in expiry ? expiry.at : 0n)
    }
    case 'removeRange':
      buffer[at] = KIND.removeRange
      return target.writeU64(at + 1, operation.range.start, operation.range.end, 0n)
  }
}

function writeAfter(target: Bytes, offset: number, after: bigint): number {
  target.buffer[offset] = KIND.expiryAfter
  return target.writeU64(offset + 1, after)
}

function writeCondition(target: Bytes, offset: number, condition: Condition): number {
  const { buffer, view } = target
  let at = offset
  if (condition.absent) buffer[at++] = KIND.ifAbsent
  if (condition.present) buffer[at++] = KIND.ifPresent
  if (condition.digest !== undefined) {
    buffer[at] = KIND.ifDigest
    writeDigest(view, at + 1, condition.digest)
    at += 17
  }
  if (condition.term !== undefined) {
    buffer[at] = KIND.ifTerm
    at = target.writeU64(at + 1, condition.term)
  }
  return at
}

function writeU32(target: Bytes, offset: number, value: number): number {
  target.view.setUint32(offset, value, true)
  return offset + 4
}

/** Its length, and the data. */
function writeData(target: Bytes, offset: number, data: Uint8Array): number {
  const at = writeU32(target, offset, data.length)
  target.buffer.set(data, at)
  return at + data.length
}

/**
 * Reads `count` operations that lie between `offset` and `end`; their data are views of `source`.
 * Errors: invalid_body with the index of the operation and the offset. `trusted` allows the internal kinds.
 */
export function readOperations(
  source: Buffer,
  offset: number,
  end: number,
  count: number,
  trusted: boolean,
): Operation[] {
  const operations: Operation[] = []
  let at = offset
  const fail = (what: string): never => {
    throw new KvidxError('invalid_body', `operation ${operations.length} (offset ${at}): ${what}`, {
      operation: operations.length,
      offset: at,
    })
  }
  const need = (bytes: number) => {
    if (end - at < bytes) fail(`needs ${bytes} more bytes, there are ${end - at}`)
  }
  while (operations.length < count) {
    let condition: Condition | undefined
    let returnPrevious = false
    let optional = false
    let after: bigint | undefined
    for (;;) {
      need(1)
      const kind = source[at] as number
      if (kind < KIND.ifAbsent) break
      if (kind === KIND.ifAbsent) condition = { ...condition, absent: true }
      else if (kind === KIND.ifPresent) condition = { ...condition, present: true }
      else if (kind === KIND.ifDigest) {
        need(17)
        // the one before would count for nothing
        if (condition?.digest !== undefined) fail('ifDigest stands twice')
        condition = { ...condition, digest: readDigest(source, at + 1) }
        at += 16
      } else if (kind === KIND.ifTerm) {
        need(9)
        if (condition?.term !== undefined) fail('ifTerm stands twice')
        condition = { ...condition, term: source.readBigUInt64LE(at + 1) }
        at += 8
      } else if (trusted && kind === KIND.returnPrevious) returnPrevious = true
      else if (trusted && kind === KIND.optional) optional = true
      else if (trusted && kind === KIND.expiryAfter) {
        need(9)
        after = source.readBigUInt64LE(at + 1)
        at += 8
      } else fail(`kind ${kind} is not known`)
      at++
    }
    const options = {
      ...(condition && { condition }),
      ...(returnPrevious && { returnPrevious: true as const }),
      ...(optional && { optional: true as const }),
    }
    const expiryOf = (expiresAt: bigint): { expiry?: ExpiryChange } =>
      after !== undefined ? { expiry: { after } } : expiresAt !== 0n ? { expiry: { at: expiresAt } } : {}
    const kind = source[at]
    switch (kind) {
      case KIND.put: {
        need(5)
        const length = source.readUInt32LE(at + 1)
        need(5 + CANONICAL_HEADER + length)
        const { key, term, cmd, data, expiresAt } = readCanonical(source, at + 5, length)
        at += 5 + CANONICAL_HEADER + length
        operations.push({ op: 'put', key, term, cmd, data, ...expiryOf(expiresAt), ...options })
        break
      }
      case KIND.append:
      case KIND.prepend: {
        need(29)
        const length = source.readUInt32LE(at + 25)
        need(29 + length)
        operations.push({
          op: kind === KIND.append ? 'append' : 'prepend',
          key: source.readBigUInt64LE(at + 1),
          term: source.readBigUInt64LE(at + 9),
          cmd: source.readBigUInt64LE(at + 17),
          data: source.subarray(at + 29, at + 29 + length),
          ...options,
        })
        at += 29 + length
        break
      }
      case KIND.splice: {
        need(21)
        const length = source.readUInt32LE(at + 17)
        need(21 + length)
        const position = source.readBigUInt64LE(at + 9)
        if (position > BigInt(Number.MAX_SAFE_INTEGER)) fail(`offset ${position} is above ${Number.MAX_SAFE_INTEGER}`)
        operations.push({
          op: 'splice',
          key: source.readBigUInt64LE(at + 1),
          offset: Number(position),
          data: source.subarray(at + 21, at + 21 + length),
          ...options,
        })
        at += 21 + length
        break
      }
      case KIND.remove:
        need(9)
        operations.push({ op: 'remove', key: source.readBigUInt64LE(at + 1), ...options })
        at += 9
        break
      case KIND.expiry:
        need(17)
        operations.push({
          op: 'expiry',
          key: source.readBigUInt64LE(at + 1),
          ...expiryOf(source.readBigUInt64LE(at + 9)),
          ...options,
        })
        at += 17
        break
      case KIND.removeRange:
        need(25)
        if (condition) fail('a range removal takes no condition')
        operations.push({
          op: 'removeRange',
          range: { start: source.readBigUInt64LE(at + 1), end: source.readBigUInt64LE(at + 9) },
        })
        at += 25
        break
      default:
        fail(`kind ${kind} is not known`)
    }
  }
  if (at !== end) fail(`there are ${end - at} bytes behind the last operation`)
  return operations
}

/** The body of a binary batch, for clients and tests. Expiries must be absolute. */
export function encodeOperations(operations: readonly Operation[]): Buffer {
  const size = operations.reduce(
    (sum, operation) => sum + operationSize(operation),
    CHANGE_FILE_HEADER + FRAME_HEADER + FRAME_TRAILER,
  )
  const body = new Bytes(size)
  const buffer = body.buffer.fill(0)
  changeFileHeader('operations').copy(buffer)
  const start = CHANGE_FILE_HEADER
  let at = start + FRAME_HEADER
  for (const operation of operations) at = writeOperation(body, at, operation)
  at += FRAME_TRAILER
  buffer.writeUInt32LE(at - start - FRAME_PREFIX, start)
  buffer.writeUInt32LE(operations.length, start + 32)
  buffer.writeUInt32LE(crc32c(buffer.subarray(start + FRAME_PREFIX, at)), start + 4)
  return buffer.subarray(0, at)
}

/** Reads the body of a binary batch. Errors: invalid_body. */
export function decodeOperations(body: Buffer): Operation[] {
  let count: number
  try {
    checkChangeFileHeader(body, 'operations')
    count = readFrameHeader(body.subarray(CHANGE_FILE_HEADER)).changeCount
  } catch (error) {
    if (error instanceof KvidxError) throw new KvidxError('invalid_body', error.message, error.details, error)
    throw error
  }
  return readOperations(body, CHANGE_FILE_HEADER + FRAME_HEADER, body.length - FRAME_TRAILER, count, false)
}

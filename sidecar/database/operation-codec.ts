import { crc32c } from '@node-rs/crc32'
import { KvidxError } from '../../src/common/errors.ts'
import { CANONICAL_HEADER, readDigest, writeDigest } from './digest.ts'
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
export function writeOperation(target: Buffer, offset: number, operation: Operation): number {
  let at = offset
  if (operation.op !== 'removeRange') {
    if (operation.condition) at = writeCondition(target, at, operation.condition)
    if (operation.returnPrevious) target[at++] = KIND.returnPrevious
    if (operation.optional) target[at++] = KIND.optional
  }
  switch (operation.op) {
    case 'put': {
      const expiry = operation.expiry
      if (expiry && 'after' in expiry) at = writeAfter(target, at, expiry.after)
      target[at] = KIND.put
      at = target.writeUInt32LE(operation.data.length, at + 1)
      at = target.writeBigUInt64LE(operation.key, at)
      at = target.writeBigUInt64LE(operation.term, at)
      at = target.writeBigUInt64LE(operation.cmd, at)
      at = target.writeBigUInt64LE(expiry && 'at' in expiry ? expiry.at : 0n, at)
      target.set(operation.data, at)
      return at + operation.data.length
    }
    case 'append':
    case 'prepend':
      target[at] = KIND[operation.op]
      at = target.writeBigUInt64LE(operation.key, at + 1)
      at = target.writeBigUInt64LE(operation.term, at)
      at = target.writeBigUInt64LE(operation.cmd, at)
      at = target.writeUInt32LE(operation.data.length, at)
      target.set(operation.data, at)
      return at + operation.data.length
    case 'splice':
      target[at] = KIND.splice
      at = target.writeBigUInt64LE(operation.key, at + 1)
      at = target.writeBigUInt64LE(BigInt(operation.offset), at)
      at = target.writeUInt32LE(operation.data.length, at)
      target.set(operation.data, at)
      return at + operation.data.length
    case 'remove':
      target[at] = KIND.remove
      return target.writeBigUInt64LE(operation.key, at + 1)
    case 'expiry': {
      const expiry = operation.expiry
      if (expiry && 'after' in expiry) at = writeAfter(target, at, expiry.after)
      target[at] = KIND.expiry
      at = target.writeBigUInt64LE(operation.key, at + 1)
      return target.writeBigUInt64LE(expiry && 'at' in expiry ? expiry.at : 0n, at)
    }
    case 'removeRange':
      target[at] = KIND.removeRange
      at = target.writeBigUInt64LE(operation.range.start, at + 1)
      at = target.writeBigUInt64LE(operation.range.end, at)
      return target.writeBigUInt64LE(0n, at)
  }
}

function writeAfter(target: Buffer, offset: number, after: bigint): number {
  target[offset] = KIND.expiryAfter
  return target.writeBigUInt64LE(after, offset + 1)
}

function writeCondition(target: Buffer, offset: number, condition: Condition): number {
  let at = offset
  if (condition.absent) target[at++] = KIND.ifAbsent
  if (condition.present) target[at++] = KIND.ifPresent
  if (condition.digest !== undefined) {
    target[at] = KIND.ifDigest
    writeDigest(target, at + 1, condition.digest)
    at += 17
  }
  if (condition.term !== undefined) {
    target[at] = KIND.ifTerm
    at = target.writeBigUInt64LE(condition.term, at + 1)
  }
  return at
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
        condition = { ...condition, digest: readDigest(source, at + 1) }
        at += 16
      } else if (kind === KIND.ifTerm) {
        need(9)
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
  const body = Buffer.alloc(size)
  changeFileHeader('operations').copy(body)
  const start = CHANGE_FILE_HEADER
  let at = start + FRAME_HEADER
  for (const operation of operations) at = writeOperation(body, at, operation)
  at += FRAME_TRAILER
  body.writeUInt32LE(at - start - FRAME_PREFIX, start)
  body.writeUInt32LE(operations.length, start + 32)
  body.writeUInt32LE(crc32c(body.subarray(start + FRAME_PREFIX, at)), start + 4)
  return body.subarray(0, at)
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

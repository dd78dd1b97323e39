import { KvidxError } from '../../src/common/errors.ts'
import { suggest } from '../../src/common/suggest.ts'
import { parseDigest } from '../database/digest.ts'
import type { Condition, ExpiryChange, Operation } from '../database/operation.ts'
import { decodeBase64 } from '../format/base64.ts'
import { clip, parseDuration, parseTime, readU64 } from './parameters.ts'

/** Reads the operations of a JSON batch. Errors: invalid_body, invalid_key and invalid_parameter, each naming the member. */

const CONDITIONS = ['ifMatch', 'ifNoneMatch', 'ifTerm', 'return']
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  put: ['key', 'term', 'cmd', 'data', 'text', 'ttl', 'expiresAt', ...CONDITIONS],
  insert: ['key', 'term', 'cmd', 'data', 'text', 'ttl', 'expiresAt', ...CONDITIONS],
  update: ['key', 'term', 'cmd', 'data', 'text', 'ttl', 'expiresAt', ...CONDITIONS],
  delete: ['key', ...CONDITIONS],
  append: ['key', 'term', 'cmd', 'data', 'text', ...CONDITIONS],
  prepend: ['key', 'term', 'cmd', 'data', 'text', ...CONDITIONS],
  splice: ['key', 'offset', 'data', 'text', ...CONDITIONS],
  expiry: ['key', 'ttl', 'expiresAt', ...CONDITIONS],
  deleteRange: ['start', 'end'],
}

type Members = Readonly<Record<string, unknown>>

/** @param mostOperations more are too_large */
export function readBatch(text: string, mostOperations: number): Operation[] {
  const document = parseJson(text, 'the body')
  if (!isObject(document) || !Array.isArray(document.ops))
    throw wrong('ops', 'the body must be an object with the list ops: {"ops":[...]}')
  for (const member of Object.keys(document))
    if (member !== 'ops') throw wrong(member, `'${clip(member)}' is not a member of a batch (allowed: ops)`)
  if (document.ops.length > mostOperations) throw tooMany(document.ops.length, mostOperations)
  return document.ops.map((operation: unknown, index) => readOperation(operation, `ops[${index}]`))
}

export function tooMany(count: number, limit: number): KvidxError {
  return new KvidxError('too_large', `the batch has ${count} operations (limit: ${limit})`, { limit })
}

/** One operation of a batch that has one on each line. Errors name the line, counted from 1. */
export function readOperationLine(bytes: Uint8Array, line: number): Operation {
  try {
    return readOperation(parseJson(utf8(bytes, 'the line'), 'the line'), 'operation')
  } catch (error) {
    if (!(error instanceof KvidxError)) throw error
    throw new KvidxError(error.code, `line ${line}: ${error.message}`, { ...error.details, line }, error)
  }
}

/** @param at where it stands, for messages: `ops[3]` */
export function readOperation(value: unknown, at: string): Operation {
  if (!isObject(value)) throw wrong(at, `${at} is not an object`)
  const { op } = value
  const allowed = typeof op === 'string' && Object.hasOwn(MEMBERS, op) ? MEMBERS[op] : undefined
  if (!allowed)
    throw wrong(`${at}.op`, `${at}.op: ${show(op)} is not an operation (allowed: ${Object.keys(MEMBERS).join(', ')})`)
  for (const member of Object.keys(value))
    if (member !== 'op' && !allowed.includes(member)) {
      const meant = suggest(member, allowed)
      throw wrong(
        `${at}.${clip(member)}`,
        `${at}.${clip(member)} is not a member of ${op} (allowed: ${allowed.join(', ')})${meant ? `; did you mean ${meant}?` : ''}`,
      )
    }
  if (op === 'deleteRange')
    return { op: 'removeRange', range: { start: requiredKey(value, 'start', at), end: requiredKey(value, 'end', at) } }
  const key = requiredKey(value, 'key', at)
  const options = readOptions(value, op as string, at)
  switch (op) {
    case 'put':
    case 'insert':
    case 'update': {
      const expiry = readExpiry(value, at)
      return {
        op: 'put',
        key,
        ...readOwners(value, at),
        data: readData(value, at),
        ...(expiry && { expiry }),
        ...options,
      }
    }
    case 'append':
    case 'prepend':
      return { op, key, ...readOwners(value, at), data: readData(value, at), ...options }
    case 'splice': {
      const { offset } = value
      if (typeof offset !== 'number' || !Number.isSafeInteger(offset) || offset < 0)
        throw wrong(`${at}.offset`, `${at}.offset: ${show(offset)} is not allowed (allowed: a whole number from 0)`)
      return { op, key, offset, data: readData(value, at), ...options }
    }
    case 'expiry': {
      const expiry = readExpiry(value, at)
      return { op, key, ...(expiry && { expiry }), ...options }
    }
    default:
      return { op: 'remove', key, ...options }
  }
}

function readOptions(value: Members, op: string, at: string): { condition?: Condition; returnPrevious?: true } {
  const condition: { absent?: true; present?: true; digest?: bigint; term?: bigint } = {}
  if (op === 'insert') condition.absent = true
  if (op === 'update') condition.present = true
  const { ifMatch, ifNoneMatch } = value
  if (ifMatch === '*') condition.present = true
  else if (ifMatch !== undefined) {
    const digest = typeof ifMatch === 'string' ? parseDigest(ifMatch.replace(/^"(.*)"$/, '$1')) : undefined
    if (digest === undefined)
      throw wrong(
        `${at}.ifMatch`,
        `${at}.ifMatch: ${show(ifMatch)} is not allowed (allowed: "*" or an ETag of 32 hex digits)`,
      )
    condition.digest = digest
  }
  if (ifNoneMatch === '*') condition.absent = true
  else if (ifNoneMatch !== undefined)
    throw wrong(`${at}.ifNoneMatch`, `${at}.ifNoneMatch: ${show(ifNoneMatch)} is not allowed (allowed: "*")`)
  if (value.ifTerm !== undefined) condition.term = readNumber(value, 'ifTerm', at)
  if (value.return !== undefined && value.return !== 'previous')
    throw wrong(`${at}.return`, `${at}.return: ${show(value.return)} is not allowed (allowed: "previous")`)
  return {
    ...(Object.keys(condition).length > 0 && { condition }),
    ...(value.return === 'previous' && { returnPrevious: true as const }),
  }
}

function readOwners(value: Members, at: string): { term: bigint; cmd: bigint } {
  return {
    term: value.term === undefined ? 0n : readNumber(value, 'term', at),
    cmd: value.cmd === undefined ? 0n : readNumber(value, 'cmd', at),
  }
}

function readExpiry(value: Members, at: string): ExpiryChange | undefined {
  const { ttl, expiresAt } = value
  if (ttl !== undefined && expiresAt !== undefined)
    throw wrong(`${at}.ttl`, `${at}: ttl and expiresAt are both given (allowed: one of them)`)
  if (ttl !== undefined) return { after: parseDuration(typeof ttl === 'string' ? ttl : show(ttl), `${at}.ttl`) }
  if (expiresAt === undefined) return undefined
  if (typeof expiresAt === 'number' && wholeText(expiresAt) === '')
    throw wrong(
      `${at}.expiresAt`,
      `${at}.expiresAt: ${show(expiresAt)} is not allowed (allowed: Unix milliseconds from 1 to 18446744073709551615 as a string, up to 2^53-1 also as a number; or RFC 3339)`,
    )
  return { at: parseTime(typeof expiresAt === 'string' ? expiresAt : show(expiresAt), `${at}.expiresAt`) }
}

function readData(value: Members, at: string): Uint8Array {
  const { data, text } = value
  if (data !== undefined && text !== undefined)
    throw wrong(`${at}.data`, `${at}: data and text are both given (allowed: one of them)`)
  if (text !== undefined) {
    if (typeof text !== 'string') throw wrong(`${at}.text`, `${at}.text is not a string`)
    // a lone surrogate would silently become U+FFFD
    if (!text.isWellFormed()) throw wrong(`${at}.text`, `${at}.text is not well-formed Unicode`)
    return Buffer.from(text)
  }
  if (data === undefined) return Buffer.alloc(0)
  if (typeof data !== 'string') throw wrong(`${at}.data`, `${at}.data is not a string of base64`)
  const bytes = decodeBase64(data)
  if (typeof bytes === 'string') throw wrong(`${at}.data`, `${at}.data is ${bytes}`)
  return bytes
}

function requiredKey(value: Members, member: string, at: string): bigint {
  const key =
    typeof value[member] === 'number' ? readU64(wholeText(value[member])) : readU64(String(value[member] ?? ''))
  if (key === undefined || (typeof value[member] !== 'number' && typeof value[member] !== 'string'))
    throw new KvidxError(
      'invalid_key',
      `${at}.${member}: ${show(value[member])} is not a key (allowed: 0 to 18446744073709551615 as a string, decimal or 0x hex; up to 2^53-1 also as a number)`,
      { field: `${at}.${member}` },
    )
  return key
}

function readNumber(value: Members, member: string, at: string): bigint {
  const given = value[member]
  const number =
    typeof given === 'number' ? readU64(wholeText(given)) : typeof given === 'string' ? readU64(given) : undefined
  if (number === undefined)
    throw wrong(
      `${at}.${member}`,
      `${at}.${member}: ${show(given)} is not allowed (allowed: 0 to 18446744073709551615 as a string; up to 2^53-1 also as a number)`,
    )
  return number
}

/** Above 2^53-1 a JSON number may have lost digits already, so it is no number for us. */
function wholeText(value: number): string {
  return Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : ''
}

const decoder = new TextDecoder('utf-8', { fatal: true })

/** @param what for the message */
export function utf8(bytes: Uint8Array, what: string): string {
  try {
    return decoder.decode(bytes)
  } catch (error) {
    throw new KvidxError('invalid_body', `${what} is not UTF-8`, {}, error)
  }
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new KvidxError('invalid_body', `${what} is not JSON: ${(error as Error).message}`, {}, error)
  }
}

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : clip(JSON.stringify(value) ?? typeof value)
}

function wrong(field: string, message: string): KvidxError {
  return new KvidxError('invalid_body', message, { field })
}

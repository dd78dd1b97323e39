import { Type } from '@sinclair/typebox'
import { KvidxError } from '../../src/common/errors.ts'
import { formatDigest } from '../database/digest.ts'
import type { Condition, ExpiryChange, Operation, Position, VisibleRecord, WriteResult } from '../database/operation.ts'
import { readBody, refuseBody } from './body.ts'
import { byteRange } from './byte-range.ts'
import { conditionFailed, etag, matches, readTags, writeCondition } from './conditions.ts'
import { type Exchange, Refusal } from './exchange.ts'
import { negotiate } from './negotiate.ts'
import * as parameter from './parameters.ts'
import { invalidParameter, parseKey, parseQuery, parseTime, parseU64 } from './parameters.ts'
import type { Route } from './route.ts'
import { RecordJson, TimeText, U64Text, WriteJson } from './schemas.ts'

/** Calls on one record. */

const BYTES = 'application/octet-stream'
const FORMS = [BYTES, 'application/json'] as const

function getRecord(exchange: Exchange): void {
  const { req } = exchange
  const key = parseKey(exchange.keyText)
  if (exchange.query !== '') parseQuery(exchange.query, {})
  const form = negotiate(req.headers.accept, FORMS)
  const { record, digest, position } = exchange.database.get(key)
  const ifMatch = exchange.header('if-match')
  if (ifMatch !== undefined && !matches(readTags(ifMatch, 'If-Match', false), digest))
    throw new Refusal(conditionFailed(`record ${key} does not have the ETag of If-Match`), {
      position,
      ...(digest !== undefined && { headers: { etag: etag(digest) } }),
    })
  if (!record || digest === undefined)
    throw new Refusal(new KvidxError('not_found', `there is no record ${key}`, { key: String(key) }), { position })
  const tag = etag(digest)
  const ifNoneMatch = exchange.header('if-none-match')
  if (ifNoneMatch !== undefined && matches(readTags(ifNoneMatch, 'If-None-Match', true), digest))
    exchange.answer(304, position, ['etag', tag])
  else if (form === 'application/json')
    exchange.json(200, position, { ...recordJson(record), etag: formatDigest(digest) }, ['etag', tag])
  else answerBytes(exchange, record, tag, position)
}

function answerBytes(exchange: Exchange, record: VisibleRecord, tag: string, position: Position): void {
  const { req } = exchange
  const headers = ['content-type', BYTES, 'etag', tag, ...fieldHeaders(record), 'accept-ranges', 'bytes']
  const ifRange = req.headers['if-range']
  const range =
    req.headers.range !== undefined && exchange.route.method === 'GET' && (ifRange === undefined || ifRange === tag)
      ? byteRange(req.headers.range, record.data.byteLength)
      : undefined
  if (!range) {
    exchange.answer(200, position, headers, record.data)
    return
  }
  headers.push('content-range', `bytes ${range.start}-${range.end}/${record.data.byteLength}`)
  exchange.answer(206, position, headers, record.data.subarray(range.start, range.end + 1))
}

const CHANGE = {
  ifTerm: parameter.u64('only if the visible record has this term'),
  return: parameter.choice('previous: the answer carries the record as it was before', ['previous']),
}
const OWNERS = {
  term: parameter.u64("the record's term, default 0; also as header Kvidx-Term"),
  cmd: parameter.u64("the record's cmd, default 0; also as header Kvidx-Cmd"),
}
const EXPIRY = {
  ttl: parameter.duration('the record expires so long after the commit'),
  expiresAt: parameter.time('the record expires at this time; also as header Kvidx-Expires-At'),
}
const PUT = { ...OWNERS, ...EXPIRY, ...CHANGE }

async function putRecord(exchange: Exchange): Promise<void> {
  const key = parseKey(exchange.keyText)
  const values = parseQuery(exchange.query, PUT)
  const { term = 0n, cmd = 0n } = owners(exchange, values)
  const expiry = expiryOf(values, fieldHeader(exchange, 'kvidx-expires-at', values.expiresAt, parseTime))
  const options = changeOptions(exchange, values)
  const data = await readBody(exchange, exchange.context.limits.recordBytes)
  await change(exchange, { op: 'put', key, term, cmd, data, ...(expiry && { expiry }), ...options }, values.return)
}

const PATCH = {
  op: parameter.required(
    parameter.choice('append: behind the data; prepend: before it; splice: at `offset`', [
      'append',
      'prepend',
      'splice',
    ]),
  ),
  offset: parameter.integer('splice: where to write, a gap is filled with zeros', 0, Number.MAX_SAFE_INTEGER),
  ...OWNERS,
  ...CHANGE,
}

async function patchRecord(exchange: Exchange): Promise<void> {
  const key = parseKey(exchange.keyText)
  const values = parseQuery(exchange.query, PATCH)
  const options = changeOptions(exchange, values)
  const owner = owners(exchange, values)
  if (values.op === 'splice') {
    const { offset } = values
    if (offset === undefined) throw invalidParameter('offset', 'offset is missing: splice writes at an offset')
    if (owner.term !== undefined || owner.cmd !== undefined)
      throw invalidParameter('term', 'a splice keeps term and cmd of the record')
    const data = await readBody(exchange, exchange.context.limits.recordBytes)
    return change(exchange, { op: 'splice', key, offset, data, ...options }, values.return)
  }
  if (values.offset !== undefined) throw invalidParameter('offset', `offset is for splice; ${values.op} has none`)
  const { term = 0n, cmd = 0n } = owner
  const data = await readBody(exchange, exchange.context.limits.recordBytes)
  await change(exchange, { op: values.op as 'append' | 'prepend', key, term, cmd, data, ...options }, values.return)
}

async function deleteRecord(exchange: Exchange): Promise<void> {
  const key = parseKey(exchange.keyText)
  const values = parseQuery(exchange.query, CHANGE)
  refuseBody(exchange)
  const options = changeOptions(exchange, values)
  await change(exchange, { op: 'remove', key, ...options }, values.return)
}

async function putExpiry(exchange: Exchange): Promise<void> {
  const key = parseKey(exchange.keyText)
  const values = parseQuery(exchange.query, { ...EXPIRY, ifTerm: CHANGE.ifTerm })
  refuseBody(exchange)
  const expiry = expiryOf(values, undefined)
  if (!expiry) throw invalidParameter('ttl', 'ttl or expiresAt is missing')
  await change(exchange, { op: 'expiry', key, expiry, ...changeOptions(exchange, values) }, undefined)
}

async function deleteExpiry(exchange: Exchange): Promise<void> {
  const key = parseKey(exchange.keyText)
  const values = parseQuery(exchange.query, { ifTerm: CHANGE.ifTerm })
  refuseBody(exchange)
  await change(exchange, { op: 'expiry', key, ...changeOptions(exchange, values) }, undefined)
}

/** Writes one operation and answers with what became of it. */
async function change(
  exchange: Exchange,
  operation: Operation,
  previous: 'previous' | string | undefined,
): Promise<void> {
  if (previous !== undefined) await reservePrevious(exchange, [operation])
  const result = await exchange.write([operation])
  const outcome = result.outcomes[0]
  if (!outcome) throw new KvidxError('internal', 'the database gave no outcome for the operation')
  if (outcome.outcome === 'condition_failed') {
    const headers = outcome.digest === undefined ? {} : { etag: etag(outcome.digest) }
    throw new Refusal(conditionFailed(describeFailure(operation)), { headers, position: result.position })
  }
  if (outcome.outcome === 'not_found') throw absent(operation, result)
  const headers = outcome.digest === undefined ? [] : ['etag', etag(outcome.digest)]
  const changed = outcome.outcome === 'changed' ? outcome : undefined
  if (changed?.length !== undefined) headers.push('kvidx-length', String(changed.length))
  if (previous === undefined) return exchange.answer(changed?.created ? 201 : 204, result.position, headers)

  const before = changed?.previous
  if (!before && operation.op === 'remove') throw absent(operation, result)
  const status = changed?.created ? 201 : 200
  if (negotiate(exchange.req.headers.accept, FORMS) === 'application/json') {
    const document = {
      position: `${result.position.epoch}.${result.position.seq}`,
      created: changed?.created,
      etag: outcome.digest === undefined ? undefined : formatDigest(outcome.digest),
      length: changed?.length,
      previous: before && recordJson(before),
    }
    return exchange.json(status, result.position, document, headers)
  }
  if (!before) return exchange.answer(status, result.position, headers)
  headers.push('content-type', BYTES, ...fieldHeaders(before))
  exchange.answer(status, result.position, headers, before.data)
}

/** Operations looked at in one go, so that others get their answers in between. */
const LOOKS = 2000

/**
 * Sets memory aside for what `return=previous` will carry, while the request can still be refused: when it is done, it is too late.
 * Errors: overloaded.
 */
export async function reservePrevious(exchange: Exchange, operations: readonly Operation[]): Promise<void> {
  let bytes = 0
  let looks = 0
  for (const operation of operations) {
    if (operation.op === 'removeRange' || !operation.returnPrevious) continue
    if (++looks % LOOKS === 0) await new Promise(resolve => setImmediate(resolve))
    bytes += exchange.database.get(operation.key).record?.data.byteLength ?? 0
    // more than one commit may answer: refused there, for good
    if (bytes > exchange.context.limits.batchBytes) return
  }
  exchange.reserve(bytes)
}

function absent(operation: Operation, result: WriteResult): KvidxError {
  const key = 'key' in operation ? String(operation.key) : ''
  return new Refusal(new KvidxError('not_found', `there is no record ${key}`, { key }), { position: result.position })
}

function describeFailure(operation: Operation): string {
  if (operation.op === 'removeRange') return 'the condition does not hold'
  return `the condition does not hold for record ${operation.key}`
}

function changeOptions(
  exchange: Exchange,
  values: { readonly ifTerm?: bigint; readonly return?: string },
): { condition?: Condition; returnPrevious?: true } {
  const condition = writeCondition(exchange, values.ifTerm)
  if (condition === 'never') {
    const { digest, position } = exchange.database.get(parseKey(exchange.keyText))
    throw new Refusal(conditionFailed('no record can have the ETag of If-Match'), {
      position,
      ...(digest !== undefined && { headers: { etag: etag(digest) } }),
    })
  }
  if (values.return !== undefined) negotiate(exchange.req.headers.accept, FORMS)
  return { ...(condition && { condition }), ...(values.return !== undefined && { returnPrevious: true as const }) }
}

function owners(exchange: Exchange, values: { readonly term?: bigint; readonly cmd?: bigint }) {
  return {
    term: fieldHeader(exchange, 'kvidx-term', values.term, parseU64),
    cmd: fieldHeader(exchange, 'kvidx-cmd', values.cmd, parseU64),
  }
}

/** A field of the record that may stand in the query or in a header, so that the headers of an answer can be sent back as they are. */
function fieldHeader(
  exchange: Exchange,
  name: string,
  given: bigint | undefined,
  parse: (text: string, field: string) => bigint,
): bigint | undefined {
  const text = exchange.header(name)
  if (text === undefined) return given
  const value = parse(text, name)
  if (given !== undefined && given !== value)
    throw invalidParameter(name, `${name}: ${value} in the header, ${given} in the query (allowed: one of them)`)
  return value
}

function expiryOf(values: { ttl?: bigint; expiresAt?: bigint }, header: bigint | undefined): ExpiryChange | undefined {
  const at = header ?? values.expiresAt
  if (values.ttl !== undefined && at !== undefined)
    throw invalidParameter('ttl', 'ttl and expiresAt are both given (allowed: one of them)')
  if (values.ttl !== undefined) return { after: values.ttl }
  return at === undefined ? undefined : { at }
}

function fieldHeaders(record: VisibleRecord): string[] {
  const headers = ['kvidx-term', String(record.term), 'kvidx-cmd', String(record.cmd)]
  if (record.expiresAt !== undefined) headers.push('kvidx-expires-at', String(record.expiresAt))
  return headers
}

/** u64 as decimal strings, data as base64. */
export function recordJson(record: VisibleRecord): Record<string, string> {
  const { data } = record
  return {
    key: String(record.key),
    term: String(record.term),
    cmd: String(record.cmd),
    data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64'),
    ...(record.expiresAt !== undefined && { expiresAt: String(record.expiresAt) }),
  }
}

const IF_MATCH = {
  'If-Match': {
    description: '*: only if a visible record has the key; "etag": only if it has this ETag',
    schema: Type.String(),
  },
}
const IF_NONE_MATCH = {
  'If-None-Match': { description: '*: only if no visible record has the key', schema: Type.Literal('*') },
}
const FIELDS = {
  'Kvidx-Term': { description: 'as the parameter term', schema: U64Text },
  'Kvidx-Cmd': { description: 'as the parameter cmd', schema: U64Text },
}
const READ_HEADERS = ['ETag', 'Kvidx-Term', 'Kvidx-Cmd', 'Kvidx-Expires-At']
const PREVIOUS = { [BYTES]: null, 'application/json': WriteJson }
const written = {
  200: { description: 'done; the body is the record before (return=previous)', headers: READ_HEADERS, body: PREVIOUS },
  201: { description: 'created', headers: ['ETag'], body: PREVIOUS },
  204: { description: 'done', headers: ['ETag'] },
}
const patched = {
  200: { ...written[200], headers: [...READ_HEADERS, 'Kvidx-Length'] },
  201: { ...written[201], headers: ['ETag', 'Kvidx-Length'] },
  204: { ...written[204], headers: ['ETag', 'Kvidx-Length'] },
}
const read = {
  summary: 'Reads a record',
  path: '/v1/records/{key}',
  rights: 'read',
  query: {},
  requestHeaders: {
    'If-Match': { description: 'only if the record has one of these ETags', schema: Type.String() },
    'If-None-Match': { description: '304 if the record has one of these ETags', schema: Type.String() },
    Range: { description: 'one byte range of the data', schema: Type.String() },
    'If-Range': { description: 'the range holds for this ETag alone', schema: Type.String() },
  },
  problems: [404, 406, 412, 416],
  handle: getRecord,
} as const

export const RECORD_ROUTES: readonly Route[] = [
  {
    ...read,
    method: 'GET',
    name: 'getRecord',
    answers: {
      200: { description: 'the data', headers: READ_HEADERS, body: { [BYTES]: null, 'application/json': RecordJson } },
      206: { description: 'a part of the data', headers: [...READ_HEADERS, 'Content-Range'], body: { [BYTES]: null } },
      304: { description: 'the client has this record already', headers: ['ETag'] },
    },
  },
  {
    ...read,
    method: 'HEAD',
    name: 'headRecord',
    summary: 'Reads the headers of a record',
    answers: {
      200: { description: 'the record is there', headers: READ_HEADERS },
      304: { description: 'the client has this record already', headers: ['ETag'] },
    },
  },
  {
    method: 'PUT',
    path: '/v1/records/{key}',
    name: 'putRecord',
    rights: 'write',
    summary: 'Writes a record; one without a new expiry never expires',
    query: PUT,
    requestHeaders: {
      ...IF_MATCH,
      ...IF_NONE_MATCH,
      ...FIELDS,
      'Kvidx-Expires-At': { description: 'as the parameter expiresAt', schema: TimeText },
    },
    requestBody: { [BYTES]: null },
    answers: written,
    problems: [406, 412, 413, 415],
    handle: putRecord,
  },
  {
    method: 'PATCH',
    path: '/v1/records/{key}',
    name: 'patchRecord',
    rights: 'write',
    summary: 'Changes a part of the data; term, cmd and expiry stay. Append and prepend create an absent record',
    query: PATCH,
    requestHeaders: { ...IF_MATCH, ...IF_NONE_MATCH, ...FIELDS },
    requestBody: { [BYTES]: null },
    answers: patched,
    problems: [404, 406, 412, 413, 415],
    handle: patchRecord,
  },
  {
    method: 'DELETE',
    path: '/v1/records/{key}',
    name: 'deleteRecord',
    rights: 'write',
    summary: 'Removes a record; also well if there is none',
    query: CHANGE,
    requestHeaders: IF_MATCH,
    answers: { 200: written[200], 204: { description: 'the record is not there any more' } },
    problems: [404, 406, 412, 413],
    handle: deleteRecord,
  },
  {
    method: 'PUT',
    path: '/v1/records/{key}/expiry',
    name: 'putExpiry',
    rights: 'write',
    summary: 'Sets when a record expires',
    query: { ...EXPIRY, ifTerm: CHANGE.ifTerm },
    requestHeaders: IF_MATCH,
    answers: { 204: written[204] },
    problems: [404, 412],
    handle: putExpiry,
  },
  {
    method: 'DELETE',
    path: '/v1/records/{key}/expiry',
    name: 'deleteExpiry',
    rights: 'write',
    summary: 'Makes a record never expire',
    query: { ifTerm: CHANGE.ifTerm },
    requestHeaders: IF_MATCH,
    answers: { 204: written[204] },
    problems: [404, 412],
    handle: deleteExpiry,
  },
]

import { KvidxError } from '../../src/common/errors.ts'
import type { StreamFormat } from '../database/database.ts'
import { formatPosition } from '../database/position.ts'
import { streamBody } from './body.ts'
import { ClientGone, type Exchange } from './exchange.ts'
import { mediaType } from './negotiate.ts'
import * as parameter from './parameters.ts'
import { parseQuery, RANGE, rangeOf } from './parameters.ts'
import type { Route } from './route.ts'
import { FORMAT_OF, offerSlices, STREAM_TYPES } from './scans.ts'
import { ImportJson } from './schemas.ts'
import { clientSignal, sendStream } from './stream.ts'

/** Export and import in kvidxkit's formats, and as NDJSON. */

const FORMATS = ['binary', 'json', 'csv', 'ndjson'] as const
const TYPE_OF: Readonly<Record<StreamFormat, string>> = {
  binary: 'application/vnd.kvidx.binary',
  json: 'application/json',
  csv: 'text/csv',
  ndjson: 'application/x-ndjson',
}

const EXPORT = { ...RANGE, format: parameter.choice('default binary', FORMATS) }

async function getExport(exchange: Exchange): Promise<void> {
  const values = parseQuery(exchange.query, EXPORT)
  const range = rangeOf(values)
  const format = values.format ?? 'binary'
  exchange.context.streams.take(1)
  try {
    const stream = await exchange.database.scan(
      { range, descending: false, values: true, format, stored: false },
      clientSignal(exchange),
    )
    await sendStream(exchange, stream.position, ['content-type', TYPE_OF[format]], stream.chunks)
  } finally {
    exchange.context.streams.give(1)
  }
}

const IMPORT = {
  format: parameter.choice('default: what content-type says', FORMATS),
  onDuplicate: parameter.choice('what to do with a key that exists; default fail', ['fail', 'skip', 'replace']),
  clear: parameter.boolean('true: the file takes the place of all records'),
  atomic: parameter.boolean('false: in slices of one commit each, for files above the limits of one commit'),
}

async function postImport(exchange: Exchange): Promise<void> {
  const values = parseQuery(exchange.query, IMPORT)
  const format = importFormat(values.format, mediaType(exchange.header('content-type')))
  if (!exchange.hasBody) throw new KvidxError('invalid_body', 'the body is empty (expected: a file to import)')
  exchange.context.streams.take(1)
  try {
    const atomic = values.atomic ?? true
    const work = exchange.database.import(
      streamBody(exchange),
      { format, onDuplicate: values.onDuplicate ?? 'fail', clear: values.clear ?? false, atomic },
      clientSignal(exchange),
    )
    const result = await (atomic ? offerSlices(work) : work)
    exchange.json(200, result.position, {
      read: String(result.read),
      imported: String(result.imported),
      skipped: String(result.skipped),
      replaced: String(result.replaced),
      position: formatPosition(result.position),
    })
  } catch (error) {
    // however the database words it: with the client gone there is nobody to tell
    if (exchange.req.destroyed && !exchange.req.complete) throw new ClientGone('the client went away', { cause: error })
    throw error
  } finally {
    exchange.context.streams.give(1)
  }
}

/** A tool that uploads a file names no type of ours; then `format` decides. */
const ANY_TYPE: readonly (string | undefined)[] = [
  undefined,
  'application/octet-stream',
  'text/plain',
  'application/x-www-form-urlencoded',
]

function importFormat(given: StreamFormat | undefined, type: string | undefined): StreamFormat {
  const told = STREAM_TYPES.find(known => known === type)
  if (told && given && FORMAT_OF[told] !== given)
    throw parameter.invalidParameter('format', `format: ${given}, but content-type says ${FORMAT_OF[told]}`)
  if (told) return FORMAT_OF[told]
  if (!given || !ANY_TYPE.includes(type))
    throw new KvidxError(
      'unsupported_media_type',
      `content-type: '${type ?? ''}' is not supported (allowed: ${STREAM_TYPES.join(', ')}; or application/octet-stream with the parameter format)`,
      { field: 'content-type' },
    )
  return given
}

const FILES = {
  'application/vnd.kvidx.binary': null,
  'application/json': null,
  'text/csv': null,
  'application/x-ndjson': null,
}

export const TRANSFER_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/export',
    name: 'export',
    rights: 'read',
    summary: "Streams the visible records of a range in one of kvidxkit's formats",
    query: EXPORT,
    answers: { 200: { description: 'the file', body: FILES } },
    long: true,
    handle: getExport,
  },
  {
    method: 'POST',
    path: '/v1/import',
    name: 'import',
    rights: 'write',
    summary: 'Reads a file; all of it is checked before anything changes',
    query: IMPORT,
    requestBody: FILES,
    answers: { 200: { description: 'imported', body: { 'application/json': ImportJson } } },
    problems: [409, 413, 415],
    long: true,
    handle: postImport,
  },
]

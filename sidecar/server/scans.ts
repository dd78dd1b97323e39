import { KvidxError } from '../../src/common/errors.ts'
import type { StreamFormat } from '../database/database.ts'
import { formatPosition } from '../database/position.ts'
import { refuseBody } from './body.ts'
import type { Exchange } from './exchange.ts'
import { negotiate } from './negotiate.ts'
import * as parameter from './parameters.ts'
import { invalidParameter, parseQuery, RANGE, rangeOf } from './parameters.ts'
import type { Route } from './route.ts'
import { CountJson, RemovedJson, ScanLine, StatsJson } from './schemas.ts'
import { statsDocument } from './stats.ts'
import { clientSignal, sendStream } from './stream.ts'

/** Calls on a range of records. */

/** First the one for a client that does not mind. */
export const STREAM_TYPES = [
  'application/x-ndjson',
  'application/vnd.kvidx.binary',
  'text/csv',
  'application/json',
] as const
export const FORMAT_OF: Readonly<Record<(typeof STREAM_TYPES)[number], StreamFormat>> = {
  'application/x-ndjson': 'ndjson',
  'application/vnd.kvidx.binary': 'binary',
  'text/csv': 'csv',
  'application/json': 'json',
}

const SCAN = {
  ...RANGE,
  limit: parameter.integer('at most so many records', 1, Number.MAX_SAFE_INTEGER),
  order: parameter.choice('asc (default): ascending keys; desc: descending', ['asc', 'desc']),
  values: parameter.boolean('false: without data'),
}

async function scanRecords(exchange: Exchange): Promise<void> {
  const values = parseQuery(exchange.query, SCAN)
  const range = rangeOf(values)
  const type = negotiate(exchange.req.headers.accept, STREAM_TYPES)
  const format = FORMAT_OF[type]
  exchange.context.streams.take(1)
  try {
    const stream = await exchange.database.scan(
      {
        range,
        descending: values.order === 'desc',
        ...(values.limit !== undefined && { limit: values.limit }),
        values: values.values ?? true,
        format,
        stored: false,
      },
      clientSignal(exchange),
    )
    await sendStream(exchange, stream.position, ['content-type', type], stream.chunks)
  } finally {
    exchange.context.streams.give(1)
  }
}

const REMOVE = {
  ...RANGE,
  all: parameter.boolean('true: every record; needed when there is no bound'),
  atomic: parameter.boolean('false: in slices of one commit each, for ranges above the limits of one commit'),
}

async function removeRange(exchange: Exchange): Promise<void> {
  const values = parseQuery(exchange.query, REMOVE)
  refuseBody(exchange)
  const bounded = values.start !== undefined || values.end !== undefined
  if (!bounded && !values.all)
    throw new KvidxError('range_required', 'without start and end every record would be removed: say all=true', {
      field: 'all',
    })
  if (bounded && values.all) throw invalidParameter('all', 'all=true does not go together with start or end')
  const range = rangeOf(values)
  if (values.atomic === false) {
    const { removed, position } = await exchange.database.removeRangeSliced(range, clientSignal(exchange))
    return exchange.json(200, position, { removed: String(removed), position: formatPosition(position) })
  }
  const result = await offerSlices(exchange.write([{ op: 'removeRange', range }]))
  const outcome = result.outcomes[0]
  const removed = outcome?.outcome === 'changed' ? (outcome.removed ?? 0) : 0
  exchange.json(200, result.position, { removed: String(removed), position: formatPosition(result.position) })
}

/** What is too large for one commit can be done in several, if the client says so. */
export async function offerSlices<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!(error instanceof KvidxError) || error.code !== 'too_large') throw error
    const offer = error.message.includes('atomic=false')
      ? ''
      : '; with atomic=false it is done in slices of one commit each'
    throw new KvidxError('too_large', error.message + offer, { ...error.details, retryWith: 'atomic=false' }, error)
  }
}

async function countRecords(exchange: Exchange): Promise<void> {
  const range = rangeOf(parseQuery(exchange.query, RANGE))
  const { count, position } = await exchange.database.count(range, clientSignal(exchange))
  exchange.json(200, position, { count: String(count), position: formatPosition(position) })
}

async function getStats(exchange: Exchange): Promise<void> {
  parseQuery(exchange.query, {})
  const stats = await exchange.database.stats(clientSignal(exchange))
  exchange.json(200, stats.position, statsDocument(exchange.database, stats))
}

export const SCAN_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/records',
    name: 'scanRecords',
    rights: 'read',
    summary: 'Streams the visible records of a range, all of one snapshot',
    query: SCAN,
    answers: {
      200: {
        description: 'the records in key order',
        body: {
          'application/x-ndjson': ScanLine,
          'application/vnd.kvidx.binary': null,
          'text/csv': null,
          'application/json': null,
        },
      },
    },
    problems: [406],
    long: true,
    handle: scanRecords,
  },
  {
    method: 'DELETE',
    path: '/v1/records',
    name: 'deleteRange',
    rights: 'write',
    summary:
      'Removes a range in one commit. With atomic=false in slices: when one fails, `removed` in the problem says how many records those before it removed',
    query: REMOVE,
    answers: { 200: { description: 'how many there were', body: { 'application/json': RemovedJson } } },
    problems: [413],
    handle: removeRange,
  },
  {
    method: 'GET',
    path: '/v1/count',
    name: 'countRecords',
    rights: 'read',
    summary: 'Counts the visible records of a range, exactly',
    query: RANGE,
    answers: { 200: { description: 'the count', body: { 'application/json': CountJson } } },
    handle: countRecords,
  },
  {
    method: 'GET',
    path: '/v1/stats',
    name: 'getStats',
    rights: 'read',
    summary: 'Figures of the stored records, the change log and the engine',
    query: {},
    answers: { 200: { description: 'the figures', body: { 'application/json': StatsJson } } },
    handle: getStats,
  },
]

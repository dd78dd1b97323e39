import { Type } from '@sinclair/typebox'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import { epochDocuments } from '../backup/manifest.ts'
import type { SnapshotSource } from '../backup/snapshot-source.ts'
import { encodeSnapshot, SNAPSHOT_TYPE, type SnapshotHead } from '../backup/snapshot-stream.ts'
import { formatDigest } from '../database/digest.ts'
import { changeFileHeader, readFrameHeader } from '../database/frame.ts'
import { formatPosition } from '../database/position.ts'
import type { RestoreRequest, RestoreStatus } from '../restore/in-place.ts'
import { readBody, refuseBody } from './body.ts'
import type { Exchange } from './exchange.ts'
import { negotiate } from './negotiate.ts'
import * as parameter from './parameters.ts'
import { invalidParameter, parseQuery, RANGE, rangeOf } from './parameters.ts'
import { problemDocument, stringify } from './problem.ts'
import type { Route } from './route.ts'
import { EtagText, PositionText, U64Decimal } from './schemas.ts'
import type { AdminServices } from './services.ts'
import { clientSignal, sendStream, writeHead } from './stream.ts'

/** Admin calls of backup and restore. */

const NDJSON = 'application/x-ndjson'
const CHANGES_TYPE = 'application/vnd.kvidx.changes'
const PROGRESS_INTERVAL = 500
const REPORT_BYTES = 64 * 1024

export function servicesOf(exchange: Exchange): AdminServices {
  const { services } = exchange.context
  if (!services) throw new KvidxError('not_ready', 'this process has neither a volume nor backups')
  return services
}

/** What the head of a snapshot says; of the database as it stands when no snapshot is given. */
function headOf(exchange: Exchange, snapshot?: SnapshotSource): SnapshotHead {
  const { database } = exchange
  const { namespace, name } = servicesOf(exchange)
  const { position, time, count, dataBytes, digest, expiring, logBase } = snapshot?.state ?? database.state
  return {
    namespace,
    database: name,
    lineage: database.lineage,
    engine: database.engine,
    engineVersion: database.engineVersion,
    epochs: epochDocuments(snapshot?.epochs ?? database.epochs),
    position: formatPosition(position),
    time: String(time),
    count: String(count),
    dataBytes: String(dataBytes),
    digest: formatDigest(digest),
    expiring: String(expiring),
    logBase: formatPosition(logBase),
    ...(snapshot?.minKey !== undefined && { minKey: String(snapshot.minKey) }),
    ...(snapshot?.maxKey !== undefined && { maxKey: String(snapshot.maxKey) }),
  }
}

/** `GET /v1/admin/snapshot` as a backup wants it. */
export async function sendSnapshot(exchange: Exchange): Promise<void> {
  exchange.context.streams.take(1)
  try {
    const snapshot = await servicesOf(exchange).snapshot(clientSignal(exchange))
    try {
      const parts = { records: snapshot.records(), expiries: snapshot.expiries() }
      const stream = encodeSnapshot(headOf(exchange, snapshot), parts)
      await sendStream(exchange, snapshot.state.position, ['content-type', SNAPSHOT_TYPE], stream)
    } finally {
      snapshot.release()
    }
  } finally {
    exchange.context.streams.give(1)
  }
}

const SLICE = {
  ...RANGE,
  bytes: parameter.required(
    parameter.integer('ends behind the record that brings it to so many bytes, 32 and the data of each', 1, 2 ** 26),
  ),
}

/** What a backup reads when no snapshot can be held: the snapshot is let go of before the client has anything. */
async function getSlice(exchange: Exchange): Promise<void> {
  const values = parseQuery(exchange.query, SLICE)
  const range = rangeOf(values)
  exchange.context.streams.take(1)
  try {
    const frame = await servicesOf(exchange).slice(range, values.bytes ?? 1, clientSignal(exchange))
    const { epoch, firstSeq } = readFrameHeader(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength))
    const file = async function* () {
      yield changeFileHeader('records')
      yield frame
    }
    await sendStream(exchange, { epoch, seq: firstSeq }, ['content-type', CHANGES_TYPE], file())
  } finally {
    exchange.context.streams.give(1)
  }
}

async function getSource(exchange: Exchange): Promise<void> {
  parseQuery(exchange.query, {})
  refuseBody(exchange)
  const { store, encryption } = servicesOf(exchange)
  const consumers = await servicesOf(exchange).consumers()
  const document = {
    ...headOf(exchange),
    consumers,
    ...(store !== undefined && { store }),
    ...(encryption && { encryption }),
  }
  exchange.json(200, exchange.database.state.position, document)
}

const NAME = parameter.required(parameter.text('name of the consumer', 128))
const SET_CONSUMER = {
  name: NAME,
  position: parameter.required(parameter.position('it has everything up to this position')),
  lease: parameter.duration('it is forgotten when it was not registered again for so long; default: never'),
}
const REMOVE_CONSUMER = { name: NAME }

async function putConsumer(exchange: Exchange): Promise<void> {
  const { name = '', position, lease } = parseQuery(exchange.query, SET_CONSUMER)
  refuseBody(exchange)
  if (!position) throw invalidParameter('position', 'position is missing')
  await servicesOf(exchange).setConsumer(name, position, lease === undefined ? undefined : Number(lease))
  exchange.answer(204, exchange.database.state.position, [])
}

async function deleteConsumer(exchange: Exchange): Promise<void> {
  const { name = '' } = parseQuery(exchange.query, REMOVE_CONSUMER)
  await servicesOf(exchange).removeConsumer(name)
  exchange.answer(204, exchange.database.state.position, [])
}

async function putReport(exchange: Exchange): Promise<void> {
  parseQuery(exchange.query, {})
  const body = await readBody(exchange, REPORT_BYTES)
  let document: unknown
  try {
    document = JSON.parse(body.toString())
  } catch (error) {
    throw new KvidxError('invalid_body', `the report is not JSON: ${(error as Error).message}`, {}, error)
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw new KvidxError('invalid_body', 'the report is not a JSON object')
  await servicesOf(exchange).report(document as Record<string, unknown>)
  exchange.answer(204, exchange.database.state.position, [])
}

const RESTORE = {
  backup: parameter.text('a backup by its name', 253),
  time: parameter.time('the state of this moment, on the ancestry of the current epoch'),
  position: parameter.position('the state of this position'),
  latest: parameter.choice('Backup: the newest good backup; Change: the newest change in the store', [
    'Backup',
    'Change',
  ]),
  undo: parameter.text('back to what a restore put into quarantine: its name, or `latest`', 128),
  atEpoch: parameter.u64('the epoch that the database must be in; otherwise nothing is done'),
  dryRun: parameter.boolean('true: only count records added, removed and changed'),
  wait: parameter.boolean('false: answer at once; `GET` tells how it goes'),
}

function restoreRequest(query: string): RestoreRequest & { wait: boolean } {
  const { backup, time, position, latest, undo, atEpoch, dryRun = false, wait = true } = parseQuery(query, RESTORE)
  const given = { backup, time, position, latest, undo }
  const names = Object.entries(given).filter(([, value]) => value !== undefined)
  if (names.length !== 1)
    throw invalidParameter(
      'from',
      `${names.length === 0 ? 'nothing' : names.map(([name]) => name).join(' and ')} says what is restored (allowed: exactly one of ${Object.keys(given).join(', ')})`,
    )
  const from: RestoreRequest['from'] =
    backup !== undefined
      ? { kind: 'backup', name: backup }
      : time !== undefined
        ? { kind: 'time', time }
        : position
          ? { kind: 'position', position }
          : undo !== undefined
            ? { kind: 'undo', name: undo }
            : { kind: latest === 'Backup' ? 'latestBackup' : 'latest' }
  return { from, dryRun, wait, ...(atEpoch !== undefined && { atEpoch }) }
}

async function postRestore(exchange: Exchange): Promise<void> {
  const { wait, ...request } = restoreRequest(exchange.query)
  refuseBody(exchange)
  const type = negotiate(exchange.req.headers.accept, ['application/json', NDJSON])
  const services = servicesOf(exchange)
  const work = services.restore(request)
  if (!wait) {
    // what can be refused at once is refused here; the rest is told by GET
    const refused = await Promise.race([work.then(() => undefined, asKvidxError), settled()])
    if (refused) throw refused
    work.catch(() => {})
    return exchange.json(202, exchange.database.state.position, services.restoreStatus ?? {})
  }
  if (type === 'application/json') return exchange.json(200, exchange.database.state.position, await work)
  const { res } = exchange
  const line = (status: RestoreStatus | undefined) => {
    writeHead(exchange, exchange.database.state.position, ['content-type', NDJSON])
    res.write(`${stringify(status ?? {})}\n`)
  }
  const timer = setInterval(() => line(services.restoreStatus), PROGRESS_INTERVAL)
  try {
    const result = await work
    writeHead(exchange, exchange.database.state.position, ['content-type', NDJSON])
    res.end(`${stringify({ ...result, end: true })}\n`)
    exchange.done('ok')
  } catch (error) {
    if (res.headersSent)
      await new Promise(resolve =>
        res.write(`${stringify({ problem: JSON.parse(problemDocument(asKvidxError(error))) })}\n`, resolve),
      )
    throw error
  } finally {
    clearInterval(timer)
  }
}

/** One turn of the event loop and a little: enough for a refusal. */
function settled(): Promise<undefined> {
  return new Promise(resolve => setTimeout(() => resolve(undefined), 50))
}

function getRestore(exchange: Exchange): void {
  parseQuery(exchange.query, {})
  const { restoreStatus } = servicesOf(exchange)
  if (!restoreStatus) throw new KvidxError('not_found', 'no restore was asked for since this process began')
  exchange.json(200, exchange.database.state.position, restoreStatus)
}

function deleteRestore(exchange: Exchange): void {
  parseQuery(exchange.query, {})
  if (!servicesOf(exchange).cancelRestore()) throw new KvidxError('conflict', 'no restore runs, or its swap has begun')
  exchange.answer(204, exchange.database.state.position, [])
}

async function getQuarantine(exchange: Exchange): Promise<void> {
  parseQuery(exchange.query, {})
  exchange.json(200, exchange.database.state.position, { entries: await servicesOf(exchange).quarantine() })
}

const QUARANTINE = { name: parameter.required(parameter.text('name below quarantine/', 128)) }

async function deleteQuarantine(exchange: Exchange): Promise<void> {
  const { name = '' } = parseQuery(exchange.query, QUARANTINE)
  await servicesOf(exchange).removeQuarantine(name)
  exchange.answer(204, exchange.database.state.position, [])
}

const SourceJson = Type.Object({
  namespace: Type.String(),
  database: Type.String(),
  lineage: Type.String(),
  position: PositionText,
  count: U64Decimal,
  digest: EtagText,
})
const RestoreJson = Type.Object({ phase: Type.String() })

export const BACKUP_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/admin/source',
    name: 'getSource',
    rights: 'admin',
    summary:
      'What a backup has to know before it begins: names, lineage, epochs, position, change log, consumers, store',
    query: {},
    answers: { 200: { description: 'the source', body: { 'application/json': SourceJson } } },
    handle: getSource,
  },
  {
    method: 'GET',
    path: '/v1/admin/slice',
    name: 'getSlice',
    rights: 'admin',
    summary: 'The first stored records of a range, expired ones included, of one moment; one at least, if there is one',
    query: SLICE,
    answers: { 200: { description: 'a change file (.kvc) of one frame of puts', body: { [CHANGES_TYPE]: null } } },
    long: true,
    handle: getSlice,
  },
  {
    method: 'PUT',
    path: '/v1/admin/consumers',
    name: 'putConsumer',
    rights: 'admin',
    summary: 'Registers a consumer of the change log or moves it; the log keeps what is behind its position',
    query: SET_CONSUMER,
    answers: { 204: { description: 'registered' } },
    handle: putConsumer,
  },
  {
    method: 'DELETE',
    path: '/v1/admin/consumers',
    name: 'deleteConsumer',
    rights: 'admin',
    summary: 'Forgets a consumer of the change log',
    query: REMOVE_CONSUMER,
    answers: { 204: { description: 'forgotten' } },
    handle: deleteConsumer,
  },
  {
    method: 'PUT',
    path: '/v1/admin/backup-report',
    name: 'putBackupReport',
    rights: 'admin',
    summary: 'A backup job tells how it ended, for status and metrics',
    query: {},
    requestBody: { 'application/json': Type.Object({}) },
    answers: { 204: { description: 'noted' } },
    problems: [413],
    handle: putReport,
  },
  {
    method: 'POST',
    path: '/v1/admin/restore',
    name: 'restore',
    rights: 'admin',
    summary: 'Restores in place: stages and verifies while serving, then swaps; the data before it goes to quarantine',
    query: RESTORE,
    answers: {
      200: { description: 'done', body: { 'application/json': RestoreJson, [NDJSON]: RestoreJson } },
      202: { description: 'begun', body: { 'application/json': RestoreJson } },
    },
    problems: [404, 406, 409],
    long: true,
    handle: postRestore,
  },
  {
    method: 'GET',
    path: '/v1/admin/restore',
    name: 'getRestore',
    rights: 'admin',
    summary: 'How the last restore goes or went',
    query: {},
    answers: { 200: { description: 'its state', body: { 'application/json': RestoreJson } } },
    problems: [404],
    handle: getRestore,
  },
  {
    method: 'DELETE',
    path: '/v1/admin/restore',
    name: 'cancelRestore',
    rights: 'admin',
    summary: 'Cancels a restore before its swap; 409 when none runs',
    query: {},
    answers: { 204: { description: 'it will end' } },
    problems: [409],
    handle: deleteRestore,
  },
  {
    method: 'GET',
    path: '/v1/admin/quarantine',
    name: 'getQuarantine',
    rights: 'admin',
    summary: 'What was put out of the way, newest first',
    query: {},
    answers: {
      200: {
        description: 'entries',
        body: { 'application/json': Type.Object({ entries: Type.Array(Type.Object({})) }) },
      },
    },
    handle: getQuarantine,
  },
  {
    method: 'DELETE',
    path: '/v1/admin/quarantine',
    name: 'deleteQuarantine',
    rights: 'admin',
    summary: 'Removes an entry of the quarantine for good',
    query: QUARANTINE,
    answers: { 204: { description: 'removed' } },
    problems: [404],
    handle: deleteQuarantine,
  },
]

import { Type } from '@sinclair/typebox'
import { milliseconds } from '../../src/common/duration.ts'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import { SNAPSHOT_TYPE } from '../backup/snapshot-stream.ts'
import type { TaskName } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { formatPosition } from '../database/position.ts'
import { EVERY_KEY } from '../engine/engine.ts'
import { sendSnapshot } from './backups.ts'
import { refuseBody } from './body.ts'
import type { Exchange } from './exchange.ts'
import { negotiate } from './negotiate.ts'
import * as parameter from './parameters.ts'
import { type Parameters, parseQuery } from './parameters.ts'
import { problemDocument, stringify } from './problem.ts'
import type { Route } from './route.ts'
import { FORMAT_OF, STREAM_TYPES } from './scans.ts'
import { DurationText, FreezeJson, TaskJson, TaskLine, ThawJson } from './schemas.ts'
import { clientSignal, sendStream, writeHead } from './stream.ts'

/** Calls for the admin token: tasks, the freeze of a volume snapshot, the snapshot of a backup. */

const NDJSON = 'application/x-ndjson'
/** Milliseconds between two lines of progress. */
const PROGRESS_INTERVAL = 500

interface Task {
  readonly name: TaskName
  readonly summary: string
  readonly query: Parameters
}

const TASKS: readonly Task[] = [
  { name: 'checkpoint', summary: 'Moves the write-ahead log into the database file', query: {} },
  { name: 'vacuum', summary: 'Gives unused space back to the file system, in slices between writes', query: {} },
  {
    name: 'compact',
    summary:
      'Rewrites the files of the engine without gaps. Writes wait; with LMDB they get 503 `not_ready` until the copy has taken the place of the files',
    query: {},
  },
  {
    name: 'expire',
    summary: 'Removes records whose expiry has passed',
    query: { confirm: parameter.boolean('true: the clock is right, although it jumped') },
  },
  {
    name: 'check',
    summary: 'Checks the engine, and count and digest against a full scan',
    query: {
      accept: parameter.boolean('true: where they differ the content is right, and is counted anew in a new epoch'),
    },
  },
]

function runTask(task: Task): (exchange: Exchange) => Promise<void> {
  return async exchange => {
    const { database } = exchange
    const values = parseQuery(exchange.query, task.query)
    refuseBody(exchange)
    const type = negotiate(exchange.req.headers.accept, ['application/json', NDJSON])
    const parameters = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]))
    const work = database.runTask(task.name, parameters, clientSignal(exchange))
    const finished = (result: Record<string, unknown>): Record<string, unknown> => ({
      ...result,
      task: task.name,
      outcome: 'ok',
      position: formatPosition(database.state.position),
    })
    if (type === 'application/json') {
      const document = finished(await work)
      return exchange.json(200, database.state.position, document)
    }
    await followTask(exchange, task.name, work, finished)
  }
}

/** A line of progress now and then, and the result as the last line. A failure after the head is told in a line, and the answer is cut. */
async function followTask(
  exchange: Exchange,
  name: TaskName,
  work: Promise<Record<string, unknown>>,
  finished: (result: Record<string, unknown>) => Record<string, unknown>,
): Promise<void> {
  const { res, database } = exchange
  const timer = setInterval(() => {
    const progress = database.tasks.find(task => task.name === name)?.progress
    writeHead(exchange, database.state.position, ['content-type', NDJSON])
    res.write(`${stringify({ task: name, progress })}\n`)
  }, PROGRESS_INTERVAL)
  try {
    const result = await work
    writeHead(exchange, database.state.position, ['content-type', NDJSON])
    res.end(`${stringify({ ...finished(result), end: true })}\n`)
    exchange.done('ok')
  } catch (error) {
    if (res.headersSent) {
      await new Promise(resolve =>
        res.write(`${stringify({ problem: JSON.parse(problemDocument(asKvidxError(error))) })}\n`, resolve),
      )
    }
    throw error
  } finally {
    clearInterval(timer)
  }
}

function cancelTask(task: Task): (exchange: Exchange) => void {
  return exchange => {
    parseQuery(exchange.query, {})
    if (!exchange.database.cancelTask(task.name)) throw new KvidxError('conflict', `${task.name} is not running`)
    exchange.answer(204, exchange.database.state.position, [])
  }
}

const LONGEST_LEASE = '10s'
const FREEZE = {
  lease: {
    schema: Type.String({ ...DurationText, examples: ['5s'] }),
    description: `how long at most nothing is written, up to ${LONGEST_LEASE} (default)`,
    parse: (text: string, field: string) => milliseconds(text, field, { min: '1ms', max: LONGEST_LEASE }),
  },
}

async function freeze(exchange: Exchange): Promise<void> {
  const { lease = milliseconds(LONGEST_LEASE, 'lease') } = parseQuery(exchange.query, FREEZE)
  refuseBody(exchange)
  const frozen = await exchange.database.freeze(lease)
  exchange.json(200, frozen.position, { ...frozen, position: formatPosition(frozen.position) })
}

const THAW = { token: parameter.required(parameter.text('what freeze answered', 256)) }

async function thaw(exchange: Exchange): Promise<void> {
  const { token = '' } = parseQuery(exchange.query, THAW)
  refuseBody(exchange)
  const result = await exchange.database.thaw(token)
  exchange.json(200, exchange.database.state.position, result)
}

async function getSnapshot(exchange: Exchange): Promise<void> {
  const { database } = exchange
  parseQuery(exchange.query, {})
  const type = negotiate(exchange.req.headers.accept, [...STREAM_TYPES, SNAPSHOT_TYPE])
  if (type === SNAPSHOT_TYPE) return sendSnapshot(exchange)
  exchange.context.streams.take(1)
  try {
    const stream = await database.scan(
      { range: EVERY_KEY, descending: false, values: true, format: FORMAT_OF[type], stored: true },
      clientSignal(exchange),
    )
    const headers = [
      ...['content-type', type, 'kvidx-lineage', database.lineage, 'kvidx-time', String(stream.state.time)],
      ...['kvidx-count', String(stream.state.count), 'kvidx-data-bytes', String(stream.state.dataBytes)],
      ...['kvidx-digest', formatDigest(stream.state.digest)],
    ]
    await sendStream(exchange, stream.position, headers, stream.chunks)
  } finally {
    exchange.context.streams.give(1)
  }
}

const capital = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1)

export const ADMIN_ROUTES: readonly Route[] = [
  ...TASKS.flatMap((task): Route[] => [
    {
      method: 'POST',
      path: `/v1/admin/${task.name}`,
      name: task.name,
      rights: 'admin',
      summary: `${task.summary}; joins the one that runs. Accept ${NDJSON} for progress`,
      query: task.query,
      answers: { 200: { description: 'done', body: { 'application/json': TaskJson, [NDJSON]: TaskLine } } },
      problems: [406, 409],
      long: true,
      handle: runTask(task),
    },
    {
      method: 'DELETE',
      path: `/v1/admin/${task.name}`,
      name: `cancel${capital(task.name)}`,
      rights: 'admin',
      summary: `Cancels a running ${task.name}; 409 when none runs`,
      query: {},
      answers: { 204: { description: 'it will end' } },
      problems: [409],
      handle: cancelTask(task),
    },
  ]),
  {
    method: 'POST',
    path: '/v1/admin/freeze',
    name: 'freeze',
    rights: 'admin',
    summary: 'Writes wait until thaw or the end of the lease; for a snapshot of the volume',
    query: FREEZE,
    answers: { 200: { description: 'frozen', body: { 'application/json': FreezeJson } } },
    problems: [409],
    long: true,
    handle: freeze,
  },
  {
    method: 'POST',
    path: '/v1/admin/thaw',
    name: 'thaw',
    rights: 'admin',
    summary: 'Ends a freeze, and says whether it held all the time',
    query: THAW,
    answers: { 200: { description: 'thawed', body: { 'application/json': ThawJson } } },
    problems: [404, 409],
    handle: thaw,
  },
  {
    method: 'GET',
    path: '/v1/admin/snapshot',
    name: 'snapshot',
    rights: 'admin',
    summary: 'Streams all stored records of one moment, expired ones included, with what the database recorded of them',
    query: {},
    answers: {
      200: {
        description: 'the records in key order',
        headers: ['Kvidx-Lineage', 'Kvidx-Time', 'Kvidx-Count', 'Kvidx-Data-Bytes', 'Kvidx-Digest'],
        body: {
          [NDJSON]: null,
          'application/vnd.kvidx.binary': null,
          'text/csv': null,
          'application/json': null,
          [SNAPSHOT_TYPE]: null,
        },
      },
    },
    problems: [406],
    long: true,
    handle: getSnapshot,
  },
]

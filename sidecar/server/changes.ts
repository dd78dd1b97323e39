import type { Change } from '../database/frame.ts'
import { changeFileHeader, changesOf, FrameSplitter, headerOf } from '../database/frame.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition } from '../database/position.ts'
import type { Exchange } from './exchange.ts'
import { negotiate } from './negotiate.ts'
import * as parameter from './parameters.ts'
import { parseQuery } from './parameters.ts'
import { recordJson } from './records.ts'
import type { Route } from './route.ts'
import { ChangeLine } from './schemas.ts'
import { clientSignal, sendStream, writeHead } from './stream.ts'

/** `GET /v1/changes`: the change feed. */

const NDJSON = 'application/x-ndjson'
const BINARY = 'application/vnd.kvidx.changes'
const TYPES = [NDJSON, BINARY] as const

const CHANGES = {
  since: parameter.position('changes behind this position; default: all that the change log still has'),
  follow: parameter.boolean('true: goes on with changes as they are made'),
}

/** A follower may wait long for its first change; its head is sent after so many milliseconds without one. */
const HEAD_AFTER = 50

async function getChanges(exchange: Exchange): Promise<void> {
  const { database, context } = exchange
  const values = parseQuery(exchange.query, CHANGES)
  const type = negotiate(exchange.req.headers.accept, TYPES)
  const follow = values.follow ?? false
  const { position, logBase } = database.state
  const since = values.since ?? logBase
  context.followers.take(1)
  try {
    const signal = AbortSignal.any([clientSignal(exchange), context.stopping])
    const frames = untilStopped(database.changes(since, follow, signal), context.stopping)
    const headers = ['content-type', type]
    const chunks = type === NDJSON ? changeLines(frames, since) : changeFile(frames)
    if (!follow) return await sendStream(exchange, position, headers, chunks)
    const timer = setTimeout(() => {
      if (exchange.res.destroyed) return
      writeHead(exchange, position, headers)
      exchange.res.flushHeaders()
    }, HEAD_AFTER)
    try {
      await sendStream(exchange, position, headers, chunks)
    } finally {
      clearTimeout(timer)
    }
  } finally {
    context.followers.give(1)
  }
}

/** A server that stops ends its followers in good order: they have everything up to the last line. */
async function* untilStopped(frames: AsyncIterable<Uint8Array>, stopping: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    yield* frames
  } catch (error) {
    if (!stopping.aborted) throw error
  }
}

async function* changeFile(frames: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let header: Uint8Array | undefined = changeFileHeader('commits')
  for await (const frame of frames) {
    // with the first frame, so that an error before it is still a problem document
    if (header) yield header
    header = undefined
    yield frame
  }
  if (header) yield header
}

/** A text of this many characters is sent, so that one large commit never becomes one large string. */
const FLUSH = 64 * 1024

/** One line for each change. `since` may lie inside a commit: what stands before it is left out. */
export async function* changeLines(chunks: AsyncIterable<Uint8Array>, since: Position): AsyncGenerator<Uint8Array> {
  const splitter = new FrameSplitter()
  let count = 0
  let last = since
  for await (const chunk of chunks) {
    for (const frame of splitter.push(chunk)) {
      const header = headerOf(frame)
      const commit = formatPosition({ epoch: header.epoch, seq: header.lastSeq })
      let seq = header.firstSeq
      let text = ''
      for (const change of changesOf(frame)) {
        const position = { epoch: header.epoch, seq: seq++ }
        if (position.seq <= since.seq) continue
        text += `${JSON.stringify({
          position: formatPosition(position),
          commit,
          time: String(header.time),
          ...changeJson(change),
        })}\n`
        count++
        last = position
        if (text.length < FLUSH) continue
        yield Buffer.from(text)
        text = ''
      }
      if (text !== '') yield Buffer.from(text)
    }
  }
  splitter.end()
  yield Buffer.from(`${JSON.stringify({ end: true, count: String(count), position: formatPosition(last) })}\n`)
}

/** The operations have the names that a batch gives them. */
function changeJson(change: Change): Record<string, string> {
  switch (change.kind) {
    case 'put': {
      const { expiresAt, ...record } = change.record
      return { op: 'put', ...recordJson(expiresAt === 0n ? record : { ...record, expiresAt }) }
    }
    case 'remove':
      return { op: 'delete', key: String(change.key) }
    case 'removeRange':
      return {
        op: 'deleteRange',
        start: String(change.range.start),
        end: String(change.range.end),
        removed: String(change.removed),
      }
    case 'expiry':
      return {
        op: 'expiry',
        key: String(change.key),
        ...(change.expiresAt !== 0n && { expiresAt: String(change.expiresAt) }),
      }
  }
}

export const CHANGE_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: '/v1/changes',
    name: 'changes',
    rights: 'read',
    summary: 'Streams changes in the order in which they were made, each once it is durable',
    query: CHANGES,
    answers: {
      200: {
        description: 'one line for each change, or a change file (.kvc)',
        body: { [NDJSON]: ChangeLine, [BINARY]: null },
      },
    },
    problems: [404, 406, 409, 410],
    long: true,
    handle: getChanges,
  },
]

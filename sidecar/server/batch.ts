import { KvidxError } from '../../src/common/errors.ts'
import { formatDigest } from '../database/digest.ts'
import { CHANGE_FILE_HEADER, FRAME_HEADER } from '../database/frame.ts'
import type { Operation, OperationOutcome, WriteResult } from '../database/operation.ts'
import { decodeOperations } from '../database/operation-codec.ts'
import { formatPosition } from '../database/position.ts'
import { readBatch, readOperationLine, tooMany, utf8 } from './batch-json.ts'
import { holdBody, readBody, streamBody } from './body.ts'
import { type Exchange, Refusal } from './exchange.ts'
import { type Line, LineSplitter } from './lines.ts'
import { mediaType } from './negotiate.ts'
import { parseQuery } from './parameters.ts'
import { recordJson, reservePrevious } from './records.ts'
import type { Route } from './route.ts'
import { BatchJson, BatchOperation, BatchResultJson } from './schemas.ts'

/** `POST /v1/batch`: one atomic request of several operations. */

export const OPERATIONS_TYPE = 'application/vnd.kvidx.operations'
const NDJSON = 'application/x-ndjson'

async function postBatch(exchange: Exchange): Promise<void> {
  parseQuery(exchange.query, {})
  const operations = await readOperations(exchange)
  const { recordBytes } = exchange.context.limits
  for (const [index, operation] of operations.entries())
    if ('data' in operation && operation.data.byteLength > recordBytes)
      throw new KvidxError(
        'too_large',
        `ops[${index}]: the data has ${operation.data.byteLength} bytes (limit: ${recordBytes})`,
        { operation: index, limit: recordBytes },
      )
  if (operations.length === 0) {
    const { position } = exchange.database.state
    return exchange.json(200, position, { position: formatPosition(position), results: [] })
  }
  await reservePrevious(exchange, operations)
  const result = await exchange.write(operations)
  if (!result.applied) throw notApplied(operations, result)
  exchange.answer(200, result.position, ['content-type', 'application/json'], await resultsBody(result))
}

const RESULTS_IN_ONE_GO = 2000

/** Made piece by piece: others get their answers in between, and all of it may be longer than the longest string of V8. */
async function resultsBody({ outcomes, position }: WriteResult): Promise<Buffer> {
  const pieces = [Buffer.from(`{"position":"${formatPosition(position)}","results":[`)]
  for (let at = 0; at < outcomes.length; at += RESULTS_IN_ONE_GO) {
    if (at > 0) await new Promise(resolve => setImmediate(resolve))
    const piece = outcomes.slice(at, at + RESULTS_IN_ONE_GO).map(outcome => JSON.stringify(outcomeJson(outcome)))
    pieces.push(Buffer.from((at > 0 ? ',' : '') + piece.join()))
  }
  return Buffer.concat([...pieces, Buffer.from(']}')])
}

async function readOperations(exchange: Exchange): Promise<Operation[]> {
  const { batchBytes, jsonBatchBytes, batchOperations } = exchange.context.limits
  const type = mediaType(exchange.header('content-type'))
  switch (type) {
    case 'application/json': {
      const hint = `; a batch as ${NDJSON} or ${OPERATIONS_TYPE} may have ${batchBytes}`
      const body = await readBody(exchange, jsonBatchBytes, hint)
      return readBatch(utf8(body, 'the body'), batchOperations)
    }
    case NDJSON:
      return readLines(exchange, batchBytes, batchOperations)
    case OPERATIONS_TYPE: {
      const body = await readBody(exchange, batchBytes)
      // judged before decoding: a small operation costs more memory than bytes
      const count = body.length >= CHANGE_FILE_HEADER + FRAME_HEADER ? body.readUInt32LE(CHANGE_FILE_HEADER + 32) : 0
      if (count > batchOperations) throw tooMany(count, batchOperations)
      return decodeOperations(body)
    }
    default:
      throw new KvidxError(
        'unsupported_media_type',
        `content-type: '${type ?? ''}' is not supported (allowed: application/json, ${NDJSON}, ${OPERATIONS_TYPE})`,
        { field: 'content-type' },
      )
  }
}

/** One operation on each line, read while it arrives: no large text is ever parsed in one go. */
async function readLines(exchange: Exchange, limit: number, mostOperations: number): Promise<Operation[]> {
  const judge = holdBody(exchange, limit)
  const operations: Operation[] = []
  const splitter = new LineSplitter(limit)
  const take = (lines: readonly Line[]): void => {
    for (const { number, bytes } of lines) {
      if (isBlank(bytes)) continue
      if (operations.length >= mostOperations) throw tooMany(operations.length + 1, mostOperations)
      operations.push(readOperationLine(bytes, number))
    }
  }
  for await (const chunk of streamBody(exchange)) {
    judge()
    take(splitter.push(chunk))
  }
  take(splitter.end())
  return operations
}

function isBlank(line: Buffer): boolean {
  return line.every(byte => byte === 0x20 || byte === 0x09 || byte === 0x0d)
}

function notApplied(operations: readonly Operation[], result: WriteResult): KvidxError {
  const index = result.outcomes.length - 1
  const failed = result.outcomes[index]
  const operation = operations[index]
  const key = operation && 'key' in operation ? ` (key ${operation.key})` : ''
  const details = { operation: index, results: result.outcomes.map(outcomeJson) }
  const error =
    failed?.outcome === 'not_found'
      ? new KvidxError(
          'not_found',
          `ops[${index}]: there is no such record${key}; nothing of the batch was done`,
          details,
        )
      : new KvidxError(
          'condition_failed',
          `ops[${index}]: the condition does not hold${key}; nothing of the batch was done`,
          details,
        )
  return new Refusal(error, { position: result.position })
}

function outcomeJson(outcome: OperationOutcome): Record<string, unknown> {
  return {
    outcome: outcome.outcome,
    ...('digest' in outcome && outcome.digest !== undefined && { etag: formatDigest(outcome.digest) }),
    ...(outcome.outcome === 'changed' && {
      created: outcome.created,
      removed: outcome.removed === undefined ? undefined : String(outcome.removed),
      length: outcome.length,
      previous: outcome.previous && recordJson(outcome.previous),
    }),
  }
}

export const BATCH_ROUTES: readonly Route[] = [
  {
    method: 'POST',
    path: '/v1/batch',
    name: 'batch',
    rights: 'write',
    summary: 'Several operations in one commit: all of them are done, or none',
    query: {},
    requestBody: { 'application/json': BatchJson, [NDJSON]: BatchOperation, [OPERATIONS_TYPE]: null },
    answers: { 200: { description: 'all done', body: { 'application/json': BatchResultJson } } },
    problems: [404, 412, 413, 415],
    handle: postBatch,
  },
]

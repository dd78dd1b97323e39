import { type TSchema, Type } from '@sinclair/typebox'
import { DURATION_FORM, DURATION_PATTERN } from '../../src/common/duration.ts'

/** The JSON of the data API: one source for the OpenAPI document and the tests that hold answers against it. */

const U64 = '(?:0|[1-9][0-9]{0,19})'
const BASE64 = '^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$'

export const KeyText = Type.String({
  pattern: `^(?:${U64}|0x[0-9a-fA-F]{1,16})$`,
  description: 'an unsigned 64-bit key, decimal or 0x hex',
  examples: ['42'],
})
export const U64Text = Type.String({
  pattern: `^(?:${U64}|0x[0-9a-fA-F]{1,16})$`,
  description: 'an unsigned 64-bit number, decimal or 0x hex',
  examples: ['7'],
})
/** As answers write it. */
export const U64Decimal = Type.String({
  pattern: `^${U64}$`,
  description: 'an unsigned 64-bit number, decimal',
  examples: ['7'],
})
export const PositionText = Type.String({
  pattern: `^${U64}\\.${U64}$`,
  description: 'a position: epoch.seq',
  examples: ['1.1042'],
})
export const EtagText = Type.String({
  pattern: '^[0-9a-f]{32}$',
  description: "the record's own digest",
  examples: ['99aa06d3014798d86001c324468d497f'],
})
export const DurationText = Type.String({
  pattern: DURATION_PATTERN,
  minLength: 2,
  description: DURATION_FORM,
  examples: ['90s'],
})
export const TimeText = Type.String({
  description: 'Unix milliseconds, or RFC 3339',
  examples: ['2030-01-31T12:00:00Z'],
})
export const Base64Text = Type.String({
  contentEncoding: 'base64',
  pattern: BASE64,
  description: 'bytes in base64, with padding',
  examples: ['aGVsbG8='],
})

/** Records, and sums over them, are u64 like the keys that they count. */
const Count = (description: string): TSchema => Type.String({ pattern: `^${U64}$`, description, examples: ['3'] })
const Time = (description: string): TSchema =>
  Type.String({ pattern: `^${U64}$`, description, examples: ['1893456000000'] })
const Bytes = (description: string): TSchema => Type.Integer({ minimum: 0, description, examples: [4096] })

/** `additionalProperties: false` lets the tests catch an undocumented member. */
const closed = { additionalProperties: false }

export const RecordJson = Type.Object(
  {
    key: U64Decimal,
    term: U64Decimal,
    cmd: U64Decimal,
    data: Base64Text,
    expiresAt: Type.Optional(U64Decimal),
    etag: Type.Optional(EtagText),
  },
  { $id: 'Record', ...closed },
)

export const PreviousJson = Type.Object(
  { key: U64Decimal, term: U64Decimal, cmd: U64Decimal, data: Base64Text, expiresAt: Type.Optional(U64Decimal) },
  { $id: 'PreviousRecord', description: 'the record as it was before the change', ...closed },
)

export const ProblemJson = Type.Object(
  {
    type: Type.String({ examples: ['urn:kvidx:problem:invalid_key'] }),
    title: Type.String({ examples: ['The key is not an unsigned 64-bit integer'] }),
    status: Type.Integer({ minimum: 400, maximum: 599, examples: [400] }),
    detail: Type.String({ examples: ["key: '-1' is not a key"] }),
    code: Type.String({ description: 'stable; one of the table in the README', examples: ['invalid_key'] }),
    retryable: Type.Boolean({ description: 'the same request can succeed later', examples: [false] }),
  },
  { $id: 'Problem', description: 'RFC 9457; further members name the field, line, record or position' },
)

export const ScanLine = Type.Union(
  [
    Type.Object(
      {
        key: U64Decimal,
        term: U64Decimal,
        cmd: U64Decimal,
        data: Type.Optional(Base64Text),
        expiresAt: Type.Optional(U64Decimal),
      },
      closed,
    ),
    Type.Object(
      { end: Type.Literal(true), count: Count('records in this answer'), position: PositionText },
      { description: 'the last line; without it the answer is not whole', ...closed },
    ),
  ],
  { $id: 'ScanLine' },
)

export const RemovedJson = Type.Object(
  { removed: Count('visible records removed'), position: PositionText },
  { $id: 'Removed', ...closed },
)

export const CountJson = Type.Object(
  { count: Count('visible records of the range'), position: PositionText },
  { $id: 'Count', ...closed },
)

export const StatsJson = Type.Object(
  {
    lineage: Type.String({ examples: ['0197c2f0-7a3c-7d52-8d3e-0a5b4c3d2e1f'] }),
    engine: Type.Union([Type.Literal('SQLite'), Type.Literal('LMDB'), Type.Literal('RocksDB')]),
    engineVersion: Type.String({ examples: ['SQLite 3.54.1'] }),
    position: PositionText,
    time: Time('time of the last commit, Unix ms'),
    count: Count('stored records, expired ones included'),
    dataBytes: Count('sum of their data lengths'),
    digest: EtagText,
    expiring: Count('stored records with an expiry'),
    minKey: Type.Optional({ ...U64Decimal, description: 'smallest stored key' }),
    maxKey: Type.Optional({ ...U64Decimal, description: 'largest stored key' }),
    log: Type.Object({ base: PositionText, bytes: Count('bytes of the change log') }, closed),
    epochs: Type.Array(
      Type.Object(
        {
          epoch: U64Decimal,
          parentEpoch: Type.Optional(U64Decimal),
          forkSeq: U64Decimal,
          reason: Type.String({ examples: ['created'] }),
          time: Time('Unix ms'),
        },
        closed,
      ),
    ),
    figures: Type.Object(
      {
        fileBytes: Bytes('all files of the database'),
        walBytes: Type.Optional(Bytes('bytes in the write-ahead log')),
        targetBytes: Type.Optional(Bytes('SQLite: size of the main file once the log is in it')),
        freeBytes: Bytes('bytes that the engine can reuse'),
        fragmentation: Type.Number({ minimum: 0, maximum: 1, examples: [0.02] }),
        mapBytes: Type.Optional(Bytes('size of the memory map')),
        pageSize: Type.Optional(Bytes('bytes of a page')),
      },
      closed,
    ),
  },
  { $id: 'Stats', ...closed },
)

const U64Input = Type.Union([U64Text, Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })], {
  description: 'a decimal or 0x hex string, or a number up to 2^53-1',
  examples: ['42'],
})

const conditions = {
  ifMatch: Type.Optional(
    Type.String({
      pattern: '^(?:\\*|"?[0-9a-fA-F]{32}"?)$',
      description: "'*': a visible record has the key; an ETag: the visible record has it",
      examples: ['*'],
    }),
  ),
  ifNoneMatch: Type.Optional(Type.Literal('*', { description: 'no visible record has the key' })),
  ifTerm: Type.Optional(U64Input),
  return: Type.Optional(Type.Literal('previous')),
}
const data = {
  data: Type.Optional(Base64Text),
  text: Type.Optional(Type.String({ description: 'the data as UTF-8, in the place of `data`', examples: ['hello'] })),
}
const expiry = {
  ttl: Type.Optional(DurationText),
  expiresAt: Type.Optional(
    Type.Union([TimeText, Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })], {
      examples: ['1893456000000'],
    }),
  ),
}
const owners = { term: Type.Optional(U64Input), cmd: Type.Optional(U64Input) }

/** The operations of a JSON batch; `put` overwrites, `insert` and `update` judge first. */
export const BatchOperation = Type.Union(
  [
    Type.Object(
      {
        op: Type.Union([Type.Literal('put'), Type.Literal('insert'), Type.Literal('update')]),
        key: U64Input,
        ...owners,
        ...data,
        ...expiry,
        ...conditions,
      },
      closed,
    ),
    Type.Object({ op: Type.Literal('delete'), key: U64Input, ...conditions }, closed),
    Type.Object(
      {
        op: Type.Union([Type.Literal('append'), Type.Literal('prepend')]),
        key: U64Input,
        ...owners,
        ...data,
        ...conditions,
      },
      closed,
    ),
    Type.Object(
      {
        op: Type.Literal('splice'),
        key: U64Input,
        offset: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, examples: [4] }),
        ...data,
        ...conditions,
      },
      closed,
    ),
    Type.Object(
      {
        op: Type.Literal('expiry', { description: 'without ttl and expiresAt: cleared' }),
        key: U64Input,
        ...expiry,
        ...conditions,
      },
      closed,
    ),
    Type.Object(
      { op: Type.Literal('deleteRange'), start: U64Input, end: U64Input },
      { description: 'both bounds inclusive', ...closed },
    ),
  ],
  { $id: 'BatchOperation', examples: [{ op: 'put', key: '42', term: '1', data: 'aGVsbG8=', ttl: '1h' }] },
)

export const BatchJson = Type.Object({ ops: Type.Array(Type.Ref('BatchOperation')) }, { $id: 'Batch', ...closed })

export const BatchOutcome = Type.Object(
  {
    outcome: Type.Union(['changed', 'unchanged', 'condition_failed', 'not_found'].map(value => Type.Literal(value))),
    created: Type.Optional(Type.Literal(true)),
    etag: Type.Optional(EtagText),
    removed: Type.Optional(Count('visible records removed')),
    length: Type.Optional(Bytes('bytes of the data after an append, prepend or splice')),
    previous: Type.Optional(Type.Ref('PreviousRecord')),
  },
  { $id: 'BatchOutcome', ...closed },
)

export const BatchResultJson = Type.Object(
  { position: PositionText, results: Type.Array(Type.Ref('BatchOutcome')) },
  { $id: 'BatchResult', description: 'one result for each operation, in order', ...closed },
)

export const WriteJson = Type.Object(
  {
    position: PositionText,
    created: Type.Optional(Type.Literal(true)),
    etag: Type.Optional(EtagText),
    length: Type.Optional(Bytes('bytes of the data after an append, prepend or splice')),
    previous: Type.Optional(Type.Ref('PreviousRecord')),
  },
  { $id: 'WriteResult', ...closed },
)

export const ImportJson = Type.Object(
  {
    read: Count('records in the file'),
    imported: Count('records written: new ones and `replaced`'),
    skipped: Count('records left as they were'),
    replaced: Count('records written in the place of others'),
    position: PositionText,
  },
  { $id: 'ImportResult', ...closed },
)

export const ChangeLine = Type.Union(
  [
    Type.Object(
      {
        position: PositionText,
        commit: Type.String({ description: 'position of the commit: its last change has it as `position`' }),
        time: Time('time of the commit, Unix ms'),
        op: Type.Union(['put', 'delete', 'deleteRange', 'expiry'].map(value => Type.Literal(value))),
        key: Type.Optional(U64Decimal),
        term: Type.Optional(U64Decimal),
        cmd: Type.Optional(U64Decimal),
        data: Type.Optional(Base64Text),
        expiresAt: Type.Optional(U64Decimal),
        start: Type.Optional(U64Decimal),
        end: Type.Optional(U64Decimal),
        removed: Type.Optional(Count('stored records that the range removal removed')),
      },
      closed,
    ),
    Type.Object({ end: Type.Literal(true), count: Count('changes in this answer'), position: PositionText }, closed),
  ],
  { $id: 'ChangeLine' },
)

export const TaskJson = Type.Object(
  { task: Type.String({ examples: ['checkpoint'] }), outcome: Type.Literal('ok'), position: PositionText },
  { $id: 'TaskResult', description: 'further members are the figures of the task' },
)

export const TaskLine = Type.Union(
  [
    Type.Object(
      { task: Type.String(), progress: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })) },
      { description: 'so far', ...closed },
    ),
    Type.Object({ task: Type.String(), outcome: Type.Literal('ok'), position: PositionText, end: Type.Literal(true) }),
    Type.Object({ problem: Type.Ref('Problem') }, { description: 'it failed; the answer ends here', ...closed }),
  ],
  { $id: 'TaskLine' },
)

export const FreezeJson = Type.Object(
  {
    token: Type.String({ examples: ['f3c1'] }),
    position: PositionText,
    expiresAt: Type.Integer({ minimum: 0, description: 'end of the lease, Unix ms', examples: [1893456000000] }),
  },
  { $id: 'Freeze', ...closed },
)

export const ThawJson = Type.Object(
  { withinLease: Type.Boolean({ description: 'false: something may have been written before the thaw' }) },
  { $id: 'Thaw', ...closed },
)

/** Everything that the document lists under components. */
export const COMPONENTS = [
  RecordJson,
  PreviousJson,
  ProblemJson,
  ScanLine,
  RemovedJson,
  CountJson,
  StatsJson,
  BatchOperation,
  BatchJson,
  BatchOutcome,
  BatchResultJson,
  WriteJson,
  ImportJson,
  ChangeLine,
  TaskJson,
  TaskLine,
  FreezeJson,
  ThawJson,
] as const

import { type Static, Type } from '@sinclair/typebox'
import { check } from '../../src/common/check.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { strict, u64, words } from '../../src/common/schema.ts'
import type { EpochRecord } from '../database/database.ts'
import type { Position } from '../database/operation.ts'
import { type Json, seal, unseal } from './canonical.ts'
import { ENCRYPTION_ALGORITHM } from './crypt.ts'

/** What a backup says about itself: docs/formats.md, section 8. Written last and create-only: without it there is no backup. */

export const MANIFEST_VERSION = 1
/** More is not a manifest; histories of thousands of epochs fit. */
export const LARGEST_MANIFEST = 4 * 1024 * 1024

const hex64 = (description: string) => Type.String({ pattern: '^[0-9a-f]{64}$', description })
export const digestSchema = Type.String({ pattern: '^[0-9a-f]{32}$', description: 'content digest, 32 hex digits' })
export const positionSchema = Type.String({
  pattern: '^(0|[1-9][0-9]{0,19})\\.(0|[1-9][0-9]{0,19})$',
  description: 'EPOCH.SEQ',
})
export const timeSchema = Type.String({
  pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$',
  description: 'UTC',
})
const text = (description: string) => Type.String({ minLength: 1, maxLength: 256, description })
const bytes = (description: string) => Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description })

const EPOCH_REASONS = [
  'created',
  'adopted',
  'restored',
  'promoted',
  'imported',
  'foreignWrites',
  'uncleanEnd',
  'behindStore',
  'salvaged',
] as const

export const epochsSchema = Type.Array(
  strict(
    {
      epoch: u64({ description: 'number of the epoch' }),
      parentEpoch: Type.Optional(u64({ description: 'the epoch that it forked from' })),
      forkSeq: u64({ description: "seq of the parent's last change that belongs to it" }),
      reason: words(EPOCH_REASONS, { description: 'how it began' }),
      time: u64({ description: 'Unix ms' }),
    },
    { description: 'one epoch' },
  ),
  { minItems: 1, description: 'epoch history' },
)

const fileSchema = strict(
  {
    name: Type.String({ pattern: '^[a-z][a-z.]{0,63}$', description: 'name in the directory of the manifest' }),
    content: words(['records', 'expiries', 'changes'], { description: 'what it holds' }),
    size: bytes('bytes as stored'),
    sha256: hex64('SHA-256 of the bytes as stored'),
    plainSize: bytes('bytes before compression and encryption'),
  },
  { description: 'one file' },
)

export const manifestSchema = strict(
  {
    formatVersion: Type.Literal(MANIFEST_VERSION),
    kind: words(['Full', 'Incremental'], { description: 'kind of the backup' }),
    name: text('name of the backup'),
    namespace: text('namespace of the database'),
    database: text('name of the database'),
    lineage: text('lineage of the database'),
    schedule: Type.Optional(text('the schedule that made it; absent: made by hand')),
    verify: Type.Boolean({ description: 'a verification was asked for: the backup is good only once it is verified' }),
    engine: words(['SQLite', 'LMDB', 'RocksDB'], { description: 'engine of the source' }),
    engineVersion: text('version of the engine'),
    epochs: epochsSchema,
    position: positionSchema,
    commitTime: u64({ description: 'time of the last commit in the backup, Unix ms' }),
    count: u64({ description: 'stored records' }),
    dataBytes: u64({ description: 'sum of data lengths' }),
    digest: digestSchema,
    minKey: Type.Optional(u64({ description: 'smallest key; Full with records only' })),
    maxKey: Type.Optional(u64({ description: 'largest key; Full with records only' })),
    parent: Type.Optional(
      strict(
        {
          kind: words(['Full', 'Incremental'], { description: 'kind of the parent' }),
          directory: text("name of the parent's directory"),
          position: positionSchema,
        },
        { description: 'what an increment continues' },
      ),
    ),
    files: Type.Array(fileSchema, { minItems: 1, maxItems: 2, description: 'files beside the manifest' }),
    encryption: Type.Optional(
      strict(
        {
          algorithm: Type.Literal(ENCRYPTION_ALGORITHM),
          keyId: Type.String({ pattern: '^[0-9a-f]{16}$', description: 'id of the master key' }),
        },
        { description: 'how the files are encrypted' },
      ),
    ),
    startedAt: timeSchema,
    completedAt: timeSchema,
    software: text('what wrote it'),
  },
  { description: 'manifest of a backup' },
)

export type Manifest = Static<typeof manifestSchema>
export type ManifestFile = Manifest['files'][number]

/** The bytes of manifest.json. Errors: invalid_manifest when a caller left the schema. */
export function encodeManifest(manifest: Manifest): Buffer {
  checkManifest(manifest, MANIFEST_NAME)
  return seal(manifest as unknown as { readonly [name: string]: Json })
}

/**
 * Reads manifest.json. Errors: backup_corrupt (cut off, changed, something behind it), invalid_manifest (another format version, a member
 * missing, unknown or out of range).
 * @param where for messages: the key in the store
 */
export function parseManifest(source: Uint8Array, where: string): Manifest {
  const value = unseal(source, where)
  checkVersion(value, MANIFEST_VERSION, where)
  return checkManifest(value, where)
}

/** Says it when a document is of a newer format, before its members are judged. */
export function checkVersion(value: Record<string, unknown>, known: number, where: string): void {
  if (value.formatVersion !== known)
    throw new KvidxError(
      'invalid_manifest',
      `${where}: formatVersion ${JSON.stringify(value.formatVersion)} is not known (known: ${known}); a newer kvidx wrote it`,
      { field: 'formatVersion' },
    )
}

const MANIFEST_NAME = 'the manifest'

function checkManifest(value: unknown, where: string): Manifest {
  const manifest = check(manifestSchema, value, where, 'invalid_manifest')
  const wrong = (field: string, why: string) =>
    new KvidxError('invalid_manifest', `${where}: ${field}: ${why}`, { field })
  const contents = manifest.files.map(file => file.content).join(' and ')
  const wanted = manifest.kind === 'Full' ? 'records and expiries' : 'changes'
  if (contents !== wanted) throw wrong('files', `a ${manifest.kind} has ${contents} (needed: ${wanted})`)
  if ((manifest.kind === 'Incremental') !== (manifest.parent !== undefined))
    throw wrong('parent', `a ${manifest.kind} ${manifest.parent ? 'has a' : 'without a'} parent`)
  const bounds = [manifest.minKey, manifest.maxKey].filter(key => key !== undefined).length
  if (manifest.kind === 'Full' && bounds !== (manifest.count === '0' ? 0 : 2))
    throw wrong('minKey', `a Full with ${manifest.count} records names ${bounds} bounds of its keys`)
  return manifest
}

/** A position as it stands in a checked document. */
export function positionOf(text: string): Position {
  const [epoch, seq] = text.split('.') as [string, string]
  return { epoch: BigInt(epoch), seq: BigInt(seq) }
}

type EpochDocument = Manifest['epochs'][number]

/** The epoch history with numbers. */
export function epochsOf(documents: readonly EpochDocument[]): EpochRecord[] {
  return documents.map(({ epoch, parentEpoch, forkSeq, reason, time }) => ({
    epoch: BigInt(epoch),
    ...(parentEpoch !== undefined && { parentEpoch: BigInt(parentEpoch) }),
    forkSeq: BigInt(forkSeq),
    reason,
    time: BigInt(time),
  }))
}

/** The inverse of epochsOf. */
export function epochDocuments(epochs: readonly EpochRecord[]): EpochDocument[] {
  return epochs.map(({ epoch, parentEpoch, forkSeq, reason, time }) => ({
    epoch: String(epoch),
    ...(parentEpoch !== undefined && { parentEpoch: String(parentEpoch) }),
    forkSeq: String(forkSeq),
    reason,
    time: String(time),
  }))
}

/** `changes/<epoch>-epochs.json`: the history as it was when the epoch's first segment was shipped. */
export const epochsDocumentSchema = strict(
  {
    formatVersion: Type.Literal(MANIFEST_VERSION),
    lineage: text('lineage of the database'),
    epochs: epochsSchema,
  },
  { description: 'epoch history' },
)

/** The bytes of an epochs document. */
export function encodeEpochsDocument(lineage: string, epochs: readonly EpochRecord[]): Buffer {
  return seal({ formatVersion: MANIFEST_VERSION, lineage, epochs: epochDocuments(epochs) as unknown as Json })
}

/** Errors: invalid_manifest. @param value what `unseal` gave */
export function checkEpochsDocument(
  value: Record<string, unknown>,
  where: string,
): Static<typeof epochsDocumentSchema> {
  checkVersion(value, MANIFEST_VERSION, where)
  return check(epochsDocumentSchema, value, where, 'invalid_manifest')
}

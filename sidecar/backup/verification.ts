import { type Static, Type } from '@sinclair/typebox'
import { check } from '../../src/common/check.ts'
import { strict, u64, words } from '../../src/common/schema.ts'
import { type Json, seal, unseal } from './canonical.ts'
import { checkVersion, digestSchema, positionSchema, timeSchema } from './manifest.ts'

/** What came out of restoring a backup for trial: docs/formats.md, section 9. Replaced by each new verification. */

const VERSION = 1

/** Names of what is compared, in the order of the work. */
export const CHECK_NAMES = [
  'files',
  'structure',
  'count',
  'dataBytes',
  'minKey',
  'maxKey',
  'position',
  'digest',
  'source',
] as const
export type CheckName = (typeof CHECK_NAMES)[number]

const text = (description: string) => Type.String({ maxLength: 1000, description })

export const verificationSchema = strict(
  {
    formatVersion: Type.Literal(VERSION),
    name: text('name of the backup'),
    directory: text('directory of the backup'),
    result: words(['Verified', 'Consistent', 'Failed'], {
      description:
        'Verified: restored, and equal to what the source recorded; Consistent: restored, and equal to its own manifest, the source being unknown',
    }),
    checks: Type.Array(
      strict(
        {
          name: words(CHECK_NAMES, { description: 'what was compared' }),
          ok: Type.Boolean({ description: 'it held' }),
          expected: Type.Optional(text('what it should be')),
          found: Type.Optional(text('what it was')),
        },
        { description: 'one check' },
      ),
      { maxItems: 32, description: 'all checks' },
    ),
    position: Type.Optional(positionSchema),
    count: Type.Optional(u64({ description: 'records restored' })),
    digest: Type.Optional(digestSchema),
    /** Directories of the backups that were restored, base first. */
    chain: Type.Array(text('directory of a backup'), { description: 'what was restored' }),
    engine: words(['SQLite', 'LMDB', 'RocksDB'], { description: 'scratch engine' }),
    error: Type.Optional(
      strict({ code: text('error code'), message: text('error message') }, { description: 'why it failed' }),
    ),
    startedAt: timeSchema,
    completedAt: timeSchema,
    software: text('what verified it'),
  },
  { description: 'result of a verification' },
)

export type Verification = Static<typeof verificationSchema>
export type VerificationCheck = Verification['checks'][number]

/** The bytes of verification.json. */
export function encodeVerification(verification: Verification): Buffer {
  check(verificationSchema, verification, 'the verification', 'invalid_manifest')
  return seal(verification as unknown as { readonly [name: string]: Json })
}

/** Reads verification.json. Errors: backup_corrupt, invalid_manifest. */
export function parseVerification(source: Uint8Array, where: string): Verification {
  const value = unseal(source, where)
  checkVersion(value, VERSION, where)
  return check(verificationSchema, value, where, 'invalid_manifest')
}

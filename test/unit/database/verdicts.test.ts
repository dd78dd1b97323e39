import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Verdict } from '../../../sidecar/database/committer.ts'
import type { OperationOutcome } from '../../../sidecar/database/operation.ts'
import { packVerdicts, unpackVerdicts } from '../../../sidecar/database/writer-protocol.ts'
import { KvidxError } from '../../../src/common/errors.ts'

const POSITION = { epoch: 3n, seq: 70n }
const u64 = fc.bigInt(0n, 2n ** 64n - 1n)
const digest = fc.oneof(fc.bigInt(0n, 2n ** 128n - 1n), fc.constantFrom(0n, 2n ** 64n, 2n ** 128n - 1n))
const wrote = fc.record(
  { outcome: fc.constant('changed' as const), created: fc.constant(true as const), digest },
  { requiredKeys: ['outcome', 'digest'] },
)
const outcome: fc.Arbitrary<OperationOutcome> = fc.oneof(
  { weight: 6, arbitrary: wrote },
  fc.record({ outcome: fc.constant('changed' as const), removed: fc.nat() }),
  fc.record({ outcome: fc.constant('changed' as const), digest, length: fc.nat() }),
  fc.record({
    outcome: fc.constant('changed' as const),
    digest,
    previous: fc.record({ key: u64, term: u64, cmd: u64, data: fc.uint8Array() }),
  }),
  fc.record({ outcome: fc.constant('unchanged' as const) }),
)
const failed: fc.Arbitrary<OperationOutcome> = fc.constantFrom(
  { outcome: 'not_found' },
  { outcome: 'condition_failed' },
)
const verdict: fc.Arbitrary<Verdict> = fc.oneof(
  { weight: 4, arbitrary: fc.array(wrote).map(outcomes => ({ position: POSITION, applied: true, outcomes })) },
  fc.array(outcome).map(outcomes => ({ position: POSITION, applied: true, outcomes })),
  // committed alone, before the others of its group
  fc.array(wrote).map(outcomes => ({ position: { epoch: 3n, seq: 69n }, applied: true, outcomes })),
  fc
    .tuple(fc.array(outcome), failed)
    .map(([done, last]) => ({ position: POSITION, applied: false, outcomes: [...done, last] })),
  fc.string().map(message => new KvidxError('too_large', message, { maxBytes: 9 })),
)

it('every verdict of a group comes through, each at its place', () => {
  fc.assert(
    fc.property(fc.array(verdict), verdicts => {
      // as the message goes from thread to thread
      const packed = structuredClone(packVerdicts(verdicts, POSITION))
      const got: Verdict[] = []
      for (const [index, one] of unpackVerdicts(packed, POSITION)) got[index] = one
      expect(got).toEqual(verdicts)
    }),
  )
})

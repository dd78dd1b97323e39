import { KvidxError } from '../../src/common/errors.ts'
import type { EpochRecord } from './database.ts'
import type { Position } from './operation.ts'

const U64_MAX = 0xffff_ffff_ffff_ffffn

/** `epoch.seq` in decimal. */
export function formatPosition(position: Position): string {
  return `${position.epoch}.${position.seq}`
}

/** Errors: invalid_parameter naming `field`. */
export function parsePosition(text: string, field: string): Position {
  const match = /^(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})$/.exec(text)
  const epoch = match ? BigInt(match[1] as string) : U64_MAX + 1n
  const seq = match ? BigInt(match[2] as string) : U64_MAX + 1n
  if (epoch > U64_MAX || seq > U64_MAX)
    throw new KvidxError(
      'invalid_parameter',
      `${field}: '${text}' is not a position (allowed: EPOCH.SEQ, two decimal numbers)`,
      { field },
    )
  return { epoch, seq }
}

/** The epochs from `epoch` back to the first, newest first. Errors: not_found when an epoch is not in the history. */
export function ancestry(history: readonly EpochRecord[], epoch: bigint): EpochRecord[] {
  const byEpoch = new Map(history.map(record => [record.epoch, record]))
  const line: EpochRecord[] = []
  for (let next: bigint | undefined = epoch; next !== undefined; ) {
    const record: EpochRecord | undefined = byEpoch.get(next)
    if (!record)
      throw new KvidxError('not_found', `epoch ${next} is not in the history of this lineage`, { epoch: String(next) })
    // a parent is always older; anything else would go round for ever
    if (record.parentEpoch !== undefined && record.parentEpoch >= record.epoch)
      throw new KvidxError(
        'engine_corrupt',
        `epoch ${record.epoch} names ${record.parentEpoch} as its parent, which is not older`,
      )
    line.push(record)
    next = record.parentEpoch
  }
  return line
}

/** Whether `position` lies on the ancestry that ends at `head`. */
export function isAncestor(history: readonly EpochRecord[], position: Position, head: Position): boolean {
  let limit = head.seq
  for (const record of ancestry(history, head.epoch)) {
    if (record.epoch === position.epoch) return position.seq <= limit && position.seq >= record.forkSeq
    // what the parent did after the fork is another branch
    if (record.forkSeq < limit) limit = record.forkSeq
  }
  return false
}

import { KvidxError } from '../../src/common/errors.ts'
import type { StoredRecord, WriteTransaction } from '../engine/engine.ts'
import type { DatabaseState } from './database.ts'
import { digestOfRecord, reduceDigest } from './digest.ts'
import { changesOf, headerOf } from './frame.ts'
import { formatPosition } from './position.ts'

/**
 * Applies one checked frame inside a transaction and returns the state after it. The caller writes state and log. Every step is compared: seq continues,
 * what is removed was there, and count, bytes and digest come out as the frame says. Errors: backup_gap, backup_corrupt; roll the transaction back.
 */
export function replayFrame(transaction: WriteTransaction, frame: Buffer, state: DatabaseState): DatabaseState {
  const header = headerOf(frame)
  const at = formatPosition({ epoch: header.epoch, seq: header.firstSeq })
  if (header.firstSeq !== state.position.seq + 1n || header.epoch < state.position.epoch)
    throw new KvidxError(
      'backup_gap',
      `changes behind ${formatPosition(state.position)} are missing: the next commit begins at ${at}`,
      {
        from: formatPosition(state.position),
        to: at,
      },
    )
  let { count, dataBytes, digest, expiring } = state
  const forget = (old: StoredRecord) => {
    count--
    dataBytes -= BigInt(old.data.length)
    digest -= digestOfRecord(old)
    if (old.expiresAt !== 0n) expiring--
  }
  const remember = (record: StoredRecord) => {
    count++
    dataBytes += BigInt(record.data.length)
    digest += digestOfRecord(record)
    if (record.expiresAt !== 0n) expiring++
  }
  const missing = (key: bigint) =>
    new KvidxError('backup_corrupt', `the commit at ${at} changes key ${key}, which is not there`, {
      key: String(key),
      position: at,
    })
  for (const change of changesOf(frame)) {
    switch (change.kind) {
      case 'put': {
        if (!transaction.insert(change.record)) {
          const old = transaction.get(change.record.key)
          if (!old) throw missing(change.record.key)
          forget(old)
          transaction.replace(old, change.record)
        }
        remember(change.record)
        break
      }
      case 'remove': {
        const old = transaction.get(change.key)
        if (!old) throw missing(change.key)
        forget(old)
        transaction.remove(old)
        break
      }
      case 'removeRange': {
        let removed = 0n
        transaction.scan(change.range, false, record => {
          forget(record)
          removed++
        })
        if (removed !== change.removed)
          throw new KvidxError(
            'backup_corrupt',
            `the commit at ${at} removed ${change.removed} records of a range, here are ${removed}`,
            { position: at },
          )
        transaction.removeRange(change.range)
        break
      }
      case 'expiry': {
        const found = transaction.get(change.key)
        if (!found) throw missing(change.key)
        const old = { ...found, data: Buffer.from(found.data) }
        const record = { ...old, expiresAt: change.expiresAt }
        forget(old)
        transaction.replace(old, record)
        remember(record)
        break
      }
    }
  }
  digest = reduceDigest(digest)
  if (count !== header.after.count || dataBytes !== header.after.dataBytes || digest !== header.after.digest)
    throw new KvidxError(
      'backup_corrupt',
      `after the commit at ${at} there are ${count} records with ${dataBytes} bytes, the commit says ${header.after.count} with ${header.after.dataBytes}` +
        (digest === header.after.digest ? '' : '; the digests differ'),
      { position: at },
    )
  return {
    ...state,
    position: { epoch: header.epoch, seq: header.lastSeq },
    time: header.time,
    count,
    dataBytes,
    digest,
    expiring,
  }
}

import { KvidxError } from '../../../src/common/errors.ts'
import type { Progress } from '../engine.ts'
import { EVERY_KEY } from '../engine.ts'
import { syncPath } from '../files.ts'
import { dataFile, type Environment, openEnvironment, type Store } from './environment.ts'

/** A commit of the copy: large enough to be quick, small enough to be cancelled soon. */
const COMMIT_BYTES = 16 << 20

/**
 * Copies one moment of everything into a new environment in key order, which leaves full pages and no free ones. The
 * binding's own compacting copy can neither be waited for nor cancelled.
 */
export function copyEnvironment(source: Environment, directory: string, progress: Progress): void {
  const target = openEnvironment(directory, { syncMode: 'Off' }, true)
  source.root.resetReadTxn()
  const transaction = source.root.useReadTransaction()
  try {
    const whole = { inclusiveEnd: true, transaction } as const
    const total = source.records.getKeysCount({ start: 0n, end: EVERY_KEY.end, ...whole })
    const keys = { start: 0n, end: EVERY_KEY.end, ...whole }
    let done = 0
    const step = (records: number): void => {
      done += records
      if (progress(Math.min(done, total), total)) throw new KvidxError('cancelled', 'The compact copy was cancelled')
    }
    step(0)
    copyStore(target, target.records, source.records.getRange(keys), value => value.data.length, step)
    const first = { expiresAt: 0n, key: 0n }
    const last = { expiresAt: EVERY_KEY.end, key: EVERY_KEY.end }
    const none = (): void => undefined
    copyStore(target, target.expiries, source.expiries.getRange({ start: first, end: last, ...whole }), () => 0, none)
    copyStore(target, target.changes, source.changes.getRange(keys), value => value.frame.length, none)
    const names = { start: '', end: '\uffff', ...whole }
    copyStore(target, target.metadata, source.metadata.getRange(names), value => value.length, none)
    target.root.env.sync()
  } finally {
    transaction.done()
    void target.root.close()
  }
  syncPath(dataFile(directory))
  syncPath(directory)
}

function copyStore<K, V>(
  environment: Environment,
  target: Store<K, V>,
  entries: Iterable<{ readonly key: K; readonly value: V }>,
  sizeOf: (value: V) => number,
  step: (records: number) => void,
): void {
  const iterator = entries[Symbol.iterator]()
  try {
    let more = true
    while (more) {
      let bytes = 0
      let records = 0
      more = environment.root.transactionSync(() => {
        while (bytes < COMMIT_BYTES) {
          const next = iterator.next()
          if (next.done === true) return false
          if (!target.putSync(next.value.key, next.value.value, { append: true }))
            throw new KvidxError('engine_corrupt', 'Keys are out of order: the database is damaged')
          bytes += sizeOf(next.value.value) + 64
          records++
        }
        return true
      })
      step(records)
    }
  } finally {
    iterator.return?.()
  }
}

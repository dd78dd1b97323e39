import { KvidxError } from '../../../src/common/errors.ts'
import type { IntegrityReport, Progress } from '../engine.ts'
import { Cursor } from './cursor.ts'
import { HEADER } from './record.ts'
import type { Session } from './session.ts'
import { LOG_HEADER, type RocksView } from './view.ts'

/** Entries between two questions to `progress`. */
const STRIDE = 10_000
/** Problems that are reported in words; the rest is counted. */
const REPORTED = 100

/**
 * Reads every block of every column family with its checksum, and compares the expiry index with the records, all of one snapshot.
 * Error: `cancelled`.
 */
export function checkIntegrity(
  session: Session,
  view: RocksView,
  snapshot: number,
  progress: Progress,
): IntegrityReport {
  const { handles } = session
  const report = new Problems()
  const total =
    session.property(handles.records, 'rocksdb.estimate-num-keys') +
    session.property(handles.expiry, 'rocksdb.estimate-num-keys') +
    session.property(handles.changes, 'rocksdb.estimate-num-keys')
  let done = 0
  const ask = (): void => {
    if (progress(Math.min(done, total), total)) throw new KvidxError('cancelled', 'the integrity check was cancelled')
  }
  const tick = (): void => {
    if (++done % STRIDE === 0) ask()
  }
  ask()
  const walk = (name: string, family: number, visit: (cursor: Cursor) => void): void => {
    const cursor = new Cursor(session, family, { snapshot, verifyChecksums: true, fillCache: false })
    try {
      while (cursor.next()) {
        visit(cursor)
        tick()
      }
    } catch (error) {
      if (!(error instanceof KvidxError) || error.code === 'cancelled') throw error
      report.add(`${name}: ${error.message}`)
    } finally {
      cursor.close()
    }
  }

  let expiring = 0
  walk('records', handles.records, cursor => {
    const length = cursor.loadKey()
    if (length !== 8) return report.add(`records: a key has ${length} bytes`)
    const value = cursor.valueLength()
    if (value < HEADER) return report.add(`records: the value of key ${cursor.key64()} has ${value} bytes`)
    if (cursor.record(cursor.key64()).expiresAt !== 0n) expiring++
  })
  let indexed = 0
  walk('expiry', handles.expiry, cursor => {
    const length = cursor.loadKey()
    if (length !== 16) return report.add(`expiry: a key has ${length} bytes`)
    const key = cursor.key64(8)
    const expiresAt = cursor.key64(0)
    indexed++
    if (view.get(key)?.expiresAt !== expiresAt) report.add(`expiry: key ${key} does not expire at ${expiresAt}`)
  })
  if (report.none && indexed !== expiring) report.add(`expiry: ${indexed} entries for ${expiring} expiring records`)
  let previous = -1n
  walk('changes', handles.changes, cursor => {
    const length = cursor.loadKey()
    if (length !== 8) return report.add(`changes: a key has ${length} bytes`)
    const lastSeq = cursor.key64()
    if (cursor.valueLength() < LOG_HEADER) return report.add(`changes: the frame of seq ${lastSeq} has no header`)
    if (lastSeq <= previous) report.add(`changes: seq ${lastSeq} stands behind ${previous}`)
    previous = lastSeq
  })
  walk('meta', handles.meta, cursor => void cursor.value())
  const background = session.property(handles.records, 'rocksdb.background-errors')
  if (background > 0) report.add(`RocksDB had ${background} background error(s) since it was opened`)
  progress(total, total)
  return { problems: report.list() }
}

class Problems {
  readonly #texts: string[] = []
  #more = 0

  get none(): boolean {
    return this.#texts.length === 0
  }

  add(text: string): void {
    if (this.#texts.length < REPORTED) this.#texts.push(text)
    else this.#more++
  }

  list(): string[] {
    return this.#more === 0 ? this.#texts : [...this.#texts, `${this.#more} more`]
  }
}

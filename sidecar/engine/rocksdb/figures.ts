import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { EngineFigures } from '../engine.ts'
import type { Address } from '../native/memory.ts'
import type { Session } from './session.ts'

/** Bytes of all files of the directory, and of the write-ahead logs among them. */
export function fileSizes(directory: string): { all: number; wal: number } {
  let all = 0
  let wal = 0
  for (const name of readdirSync(directory)) {
    const size = sizeOf(join(directory, name))
    all += size
    if (name.endsWith('.log')) wal += size
  }
  return { all, wal }
}

/** A compaction may remove a file between the listing and the look at it. */
function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

export function families({ handles }: Session): readonly Address[] {
  return [handles.records, handles.expiry, handles.changes, handles.meta]
}

/** Bytes of table files, and of these what a full compaction would give back, by RocksDB's estimate. */
export function tableSizes(session: Session): { total: number; reclaimable: number } {
  let total = 0
  let reclaimable = 0
  for (const family of families(session)) {
    const tables = session.property(family, 'rocksdb.total-sst-files-size')
    const live = session.property(family, 'rocksdb.estimate-live-data-size')
    total += tables
    reclaimable += Math.max(0, tables - live)
  }
  return { total, reclaimable }
}

/** Bytes of write buffers that are not in table files yet. */
export function unflushedBytes(session: Session): number {
  return families(session).reduce((sum, family) => sum + session.property(family, 'rocksdb.cur-size-all-mem-tables'), 0)
}

export function rocksFigures(session: Session, directory: string): EngineFigures {
  session.ensureOpen()
  const { all, wal } = fileSizes(directory)
  const { reclaimable } = tableSizes(session)
  const freeBytes = Math.min(Math.max(reclaimable, session.gate.removedBytes), all)
  return { fileBytes: all, walBytes: wal, freeBytes, fragmentation: all === 0 ? 0 : freeBytes / all }
}

import type { Connection } from './connection.ts'

/** Copies the WAL into the main file as far as readers allow; returns the bytes that are left to copy. */
export function checkpointWal(connection: Connection, mode: 'passive' | 'truncate'): number {
  const rows = connection.pragma(`wal_checkpoint(${mode})`) as { busy: number; log: number; checkpointed: number }[]
  const [row] = rows
  // log is -1 when the database has no WAL.
  if (row === undefined || row.log <= 0) return 0
  const pageSize = Number(connection.pragma('page_size', { simple: true }))
  return (row.log - row.checkpointed) * pageSize
}

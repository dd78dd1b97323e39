import type { EngineFigures } from '../engine.ts'
import { fileSize } from '../files.ts'
import { type Connection, databaseFile } from './connection.ts'
import { guarded } from './errors.ts'

/** Sizes as the files and the header say. */
export function sqliteFigures(connection: Connection, directory: string): EngineFigures {
  return guarded(directory, 'read its figures', () => {
    const file = databaseFile(directory)
    const walBytes = fileSize(`${file}-wal`)
    const pageSize = Number(connection.pragma('page_size', { simple: true }))
    const pages = Number(connection.pragma('page_count', { simple: true }))
    const freePages = Number(connection.pragma('freelist_count', { simple: true }))
    return {
      fileBytes: fileSize(file) + walBytes + fileSize(`${file}-shm`),
      walBytes,
      targetBytes: pages * pageSize,
      freeBytes: freePages * pageSize,
      fragmentation: pages === 0 ? 0 : freePages / pages,
      pageSize,
    }
  })
}

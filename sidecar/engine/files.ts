import { closeSync, fsyncSync, openSync, statfsSync, statSync } from 'node:fs'

/** Size of a file in bytes; 0 when there is none. */
export function fileSize(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

/** Below this much free space an I/O error of a write is taken for a full disk: engines report some short writes as plain I/O. */
const FULL_BELOW = 1 << 20

/** Bytes that a process without special rights can still write in the file system of `path`. */
export function freeSpace(path: string): number {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize
}

/** Whether the file system of `directory` has no room left. */
export function isFull(directory: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(directory)
    return bavail * bsize < FULL_BELOW
  } catch {
    return false
  }
}

/** Makes a file or a directory durable. */
export function syncPath(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

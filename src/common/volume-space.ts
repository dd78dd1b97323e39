import { statfsSync } from 'node:fs'

/** A file system, in bytes. */
export interface VolumeSpace {
  readonly size: number
  /** What a process without special rights can still write. */
  readonly free: number
}

/** Size and free bytes of the file system that a path lies on. Quick: one system call. */
export function volumeSpace(path: string): VolumeSpace {
  const stat = statfsSync(path)
  return { size: stat.blocks * stat.bsize, free: stat.bavail * stat.bsize }
}

/** An amount that may be given in percent. */
export type Share = { readonly bytes?: number; readonly percent?: number }

/** The amount in bytes, of `whole` bytes. */
export function shareOf(share: Share, whole: number): number {
  return share.bytes ?? Math.floor((whole * (share.percent ?? 0)) / 100)
}

import { KvidxError } from '../../../src/common/errors.ts'

/** For pages that are written anew without growing the data: branches, the free list, the root. */
const MARGIN = 1 << 20
/** A commit that adds less than this (a remove, an expiry) finds its pages among those that the file has free. */
const SMALL = 64 * 1024
/** … and needs this much beside them. */
const SMALL_MARGIN = 128 * 1024

/** A file with so many times the needed bytes in free pages is taken to hold what is needed in one piece, too. */
const PLENTY = 4

/**
 * Refuses a commit for which the file system may have no room. The binding cannot be left to find out: when LMDB's write of the dirty
 * pages fails with ENOSPC, it frees memory that is not its own and the process aborts. Error: `no_space`.
 * @param bytes what the transaction wrote, from above
 * @param free bytes of the file system
 * @param reusable asked when they are few: bytes of free pages in the file
 */
export function admitCommit(bytes: number, free: number, reusable: () => number): void {
  const needed = bytes < SMALL ? bytes + SMALL_MARGIN : 2 * bytes + MARGIN
  if (free >= needed || reusable() >= PLENTY * needed) return
  throw new KvidxError('no_space', `LMDB: the commit needs up to ${needed} bytes free, ${free} are`, { free, needed })
}

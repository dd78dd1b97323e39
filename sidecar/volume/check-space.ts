import { KvidxError } from '../../src/common/errors.ts'
import { volumeSpace } from '../../src/common/volume-space.ts'

/** Errors: insufficient_space. @param path names the place for as long as it is tried again */
export function checkSpace(path: string, needed: number): void {
  const { free } = volumeSpace(path)
  if (free < needed)
    throw new KvidxError('insufficient_space', `the restore needs ${needed} bytes free at ${path}, there are ${free}`, {
      needed,
      free,
      path,
    })
}

import { randomBytes } from 'node:crypto'
import { rmSync, statSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'

const MIB = 1024 * 1024

/** Bytes set aside on a volume of `size` bytes: min(64 MiB, 2 %). */
export function ballastSize(size: number): number {
  return Math.min(64 * MIB, Math.floor(size * 0.02))
}

/** Whether a whole ballast is there. */
export function hasBallast(path: string, bytes: number): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) >= bytes
}

/** Gives the space back at once: what removes and checkpoints need on a volume that others have filled to the last byte. */
export function releaseBallast(path: string): void {
  rmSync(path, { force: true })
}

/** Writes the file, with bytes that no file system folds away. What cannot be written whole is not kept. Returns whether it is there. */
export async function makeBallast(path: string, bytes: number): Promise<boolean> {
  const block = randomBytes(Math.min(MIB, bytes))
  try {
    const file = await open(path, 'w', 0o600)
    try {
      for (let left = bytes; left > 0; left -= block.length) await file.write(block, 0, Math.min(left, block.length))
    } finally {
      await file.close()
    }
    return true
  } catch {
    await rm(path, { force: true })
    return false
  }
}

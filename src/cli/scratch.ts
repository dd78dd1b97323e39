import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Runs work with a scratch directory of its own, removed afterwards. @param parent default: that for temporary files */
export async function withScratch<T>(parent: string | undefined, work: (directory: string) => Promise<T>): Promise<T> {
  const base = parent ?? tmpdir()
  mkdirSync(base, { recursive: true })
  const directory = mkdtempSync(join(base, 'kvidx-scratch-'))
  try {
    return await work(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

import { renameSync, writeFileSync } from 'node:fs'

/** All or nothing: whoever reads it meanwhile, or after a disk was full, has the old content. For its owner alone (0600). */
export function replaceFile(path: string, content: string): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

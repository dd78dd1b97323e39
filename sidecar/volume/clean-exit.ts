import { createHash } from 'node:crypto'
import { open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDirectory, type VolumeLayout, writeFileDurably } from './layout.ts'

/** What a file looked like when the database was closed. */
interface FileMark {
  readonly name: string
  readonly size: number
  readonly mtimeNs: string
  /** SHA-256 of the first 8 KiB, where the engines keep their counters. */
  readonly head: string
}

const HEAD_BYTES = 8192
/** Opened by whoever looks at the database, without a change to it. */
const IGNORED = new Set(['lock.mdb', 'LOCK', 'LOG', 'LOG.old', 'main.db-shm'])

async function markFiles(directory: string): Promise<FileMark[]> {
  const marks: FileMark[] = []
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || IGNORED.has(entry.name)) continue
    const path = join(entry.parentPath, entry.name)
    const { size, mtimeNs } = await stat(path, { bigint: true })
    const handle = await open(path, 'r')
    try {
      const head = Buffer.alloc(Math.min(HEAD_BYTES, Number(size)))
      await handle.read(head, 0, head.length, 0)
      marks.push({
        name: path.slice(directory.length + 1),
        size: Number(size),
        mtimeNs: String(mtimeNs),
        head: createHash('sha256').update(head).digest('hex'),
      })
    } finally {
      await handle.close()
    }
  }
  return marks.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** How the last process left the volume. */
export type LastEnd =
  | { readonly kind: 'clean' }
  /** No marker: it was killed, or lost power. */
  | { readonly kind: 'unclean' }
  /** The files are not as they were left. */
  | { readonly kind: 'changed'; readonly files: readonly string[]; readonly position: string }

export async function writeCleanExit(layout: VolumeLayout, position: string): Promise<void> {
  const files = await markFiles(layout.database)
  await writeFileDurably(layout.cleanExit, `${JSON.stringify({ formatVersion: 1, position, files }, undefined, 2)}\n`)
}

export async function readLastEnd(layout: VolumeLayout): Promise<LastEnd> {
  let files: unknown
  let position: unknown
  try {
    ;({ files, position } = JSON.parse(await readFile(layout.cleanExit, 'utf8')) as {
      files?: unknown
      position?: unknown
    })
  } catch {
    return { kind: 'unclean' }
  }
  // a marker that says nothing is none
  if (!Array.isArray(files)) return { kind: 'unclean' }
  const before = new Map((files as FileMark[]).map(mark => [mark?.name, mark]))
  const changed: string[] = []
  for (const now of await markFiles(layout.database)) {
    const then = before.get(now.name)
    before.delete(now.name)
    if (!then || then.size !== now.size || then.mtimeNs !== now.mtimeNs || then.head !== now.head)
      changed.push(now.name)
  }
  changed.push(...before.keys())
  return changed.length === 0 ? { kind: 'clean' } : { kind: 'changed', files: changed, position: String(position) }
}

/** Must be gone from the disk before the first write of a new run, or a crash would look like a clean end. */
export async function removeCleanExit(layout: VolumeLayout): Promise<void> {
  await rm(layout.cleanExit, { force: true })
  await syncDirectory(layout.root)
}

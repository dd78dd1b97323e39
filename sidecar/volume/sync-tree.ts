import { constants, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'

/** Makes a directory with everything in it durable: files, then the directories that name them. */
export async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) await syncTree(path)
    else if (entry.isFile()) await sync(path, constants.O_RDONLY)
  }
  await sync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
}

async function sync(path: string, flags: number): Promise<void> {
  const handle = await open(path, flags)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

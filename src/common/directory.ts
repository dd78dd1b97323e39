import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { KvidxError } from './errors.ts'

/** What keeps this process from writing into a directory, and what to do; undefined: nothing. */
export function unwritable(path: string): string | undefined {
  try {
    if (!statSync(path).isDirectory()) return `${path} is a file (allowed: a directory)`
    accessSync(path, constants.W_OK | constants.X_OK)
    return undefined
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EROFS')
      return `${path} is on a file system that is mounted read-only: mount it read-write; if it was, look into the kernel's log, for after errors of the disk it does that by itself`
    if (code === 'EACCES' || code === 'EPERM')
      return `${path} is not for this user to write to: give it to user ${process.getuid?.()} (chown), or run as its owner`
    if (code === 'ENOENT') return `${path} does not exist: make it, or mount the volume there`
    return `${path} cannot be used: ${message}`
  }
}

/** Makes a directory and its parents, for this user alone, where they are not there. Errors: engine_io naming what is in the way. */
export function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  } catch (error) {
    // mkdir of Node calls a read-only file system a missing directory; the nearest parent that is there tells
    let parent = resolve(path)
    while (!existsSync(parent)) parent = dirname(parent)
    const why = unwritable(parent) ?? (error as Error).message
    throw new KvidxError('engine_io', `${path} cannot be made: ${why}`, { path }, error)
  }
}

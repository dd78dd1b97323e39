import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { hostname } from 'node:os'
import koffi from 'koffi'
import { KvidxError } from '../../src/common/errors.ts'

/** Who has a database open; written into the lock file. */
export interface LockHolder {
  readonly pod: string
  readonly node: string
  readonly bootId: string
  readonly pid: number
  /** Unix ms */
  readonly startedAt: number
}

export interface VolumeLock {
  release(): void
}

// <fcntl.h> of Linux; the same on x86-64 and arm64
const F_OFD_SETLK = 37
const F_WRLCK = 1
const SIZEOF_FLOCK = 32

let fcntl: ((fd: number, command: number, type: string, argument: Buffer) => number) | undefined

/**
 * Takes the volume's lock: an open-file-description lock, which the kernel gives back when the process dies, however it
 * dies, and which no close() of another descriptor of the same file releases. Errors: `locked`, naming the holder.
 */
export function lockVolume(path: string, node: string): VolumeLock {
  const fd = openSync(path, 'a+', 0o600)
  try {
    fcntl ??= koffi.load(null).func('int fcntl(int fd, int command, ...)') as unknown as typeof fcntl
    const flock = Buffer.alloc(SIZEOF_FLOCK)
    flock.writeInt16LE(F_WRLCK, 0)
    if (fcntl?.(fd, F_OFD_SETLK, 'void *', flock) !== 0) {
      const holder = readHolder(path)
      const who = holder
        ? `${holder.pod === holder.node ? holder.pod : `pod ${holder.pod} on node ${holder.node}`} (process ${holder.pid}, since ${new Date(holder.startedAt).toISOString()})`
        : 'another process'
      throw new KvidxError('locked', `${path} is held by ${who}; waiting for it, never breaking it`, { ...holder })
    }
    const me: LockHolder = { pod: hostname(), node, bootId: bootId(), pid: process.pid, startedAt: Date.now() }
    ftruncateSync(fd, 0)
    writeSync(fd, `${JSON.stringify(me)}\n`)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  return { release: () => closeSync(fd) }
}

export function readHolder(path: string): LockHolder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as LockHolder
  } catch {
    return undefined
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return ''
  }
}

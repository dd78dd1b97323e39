import { randomBytes } from 'node:crypto'
import type { Dirent } from 'node:fs'
import {
  constants,
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import { KvidxError } from '../../../src/common/errors.ts'
import { chunksOf, throwIfAborted } from './body.ts'
import { checkKey, checkPrefix, TEMPORARY } from './key.ts'
import type {
  BackupStore,
  GetOptions,
  ListOptions,
  ListPage,
  ObjectBody,
  ObjectInfo,
  OpenObject,
  PartialUpload,
  PutOptions,
} from './store.ts'

const CHUNK = 1024 * 1024

/**
 * A store in a directory that exists already: a missing one is more likely an unmounted volume than a new store. An object grows in
 * `.kvidx-tmp/`, is fsynced, then renamed or (create-only) linked to its name, and its directory is fsynced; so after kill -9 or power
 * loss an object is there whole or not at all.
 */
export class DirectoryStore implements BackupStore {
  readonly location: string
  readonly #root: string
  #realRoot: string | undefined

  /** @param root absolute path; it must exist when the first call is made */
  constructor(root: string) {
    this.#root = root
    this.location = pathToFileURL(root).href
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    checkKey(key)
    await this.#write(key, body, options.signal, async (temporary, target) => {
      await rename(temporary, target)
    })
  }

  async putIfAbsent(key: string, body: Uint8Array, signal?: AbortSignal): Promise<'created' | 'exists'> {
    checkKey(key)
    if (await this.head(key, signal)) return 'exists'
    let result: 'created' | 'exists' = 'created'
    await this.#write(key, body, signal, async (temporary, target) => {
      try {
        // link fails if the name is taken, also by somebody who was quicker than our look
        await link(temporary, target)
      } catch (thrown) {
        const { code } = thrown as NodeJS.ErrnoException
        if (code === 'EEXIST') result = 'exists'
        else if (code === 'EPERM' || code === 'ENOTSUP' || code === 'EOPNOTSUPP' || code === 'ENOSYS')
          throw new KvidxError(
            'store_denied',
            `the file system of ${this.location} has no hard links (${code}), so nothing can be created there without the risk of replacing; use ext4, xfs, btrfs or NFS`,
            {},
            thrown,
          )
        else throw thrown
      }
      await unlink(temporary)
    })
    return result
  }

  async get(key: string, options: GetOptions = {}): Promise<OpenObject> {
    checkKey(key)
    throwIfAborted(options.signal)
    const file = await this.#openForReading(key)
    try {
      const { size } = await file.stat()
      const start = options.range?.start ?? 0
      const end = options.range?.end ?? size
      if (start < 0 || end > size || start > end)
        throw new KvidxError('range_not_satisfiable', `${key}: bytes ${start} to ${end} lie outside its ${size} bytes`)
      return { size, chunks: this.#read(file, key, start, end, options.signal) }
    } catch (thrown) {
      await file.close()
      throw this.#error(thrown, key)
    }
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    checkKey(key)
    throwIfAborted(signal)
    await this.#checkRoot()
    try {
      const found = await stat(join(this.#root, key))
      return found.isFile() ? { key, size: found.size, modified: Math.floor(found.mtimeMs) } : undefined
    } catch (thrown) {
      if (isAbsent(thrown)) return undefined
      throw this.#error(thrown, key)
    }
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ListPage> {
    checkPrefix(prefix)
    await this.#checkRoot()
    const limit = Math.min(1000, Math.max(1, options.limit ?? 1000))
    const objects: ObjectInfo[] = []
    const folders: string[] = []
    let last: string | undefined
    for await (const entry of this.#walk(prefix, options)) {
      throwIfAborted(options.signal)
      if (objects.length + folders.length === limit && last !== undefined) return { objects, folders, next: last }
      last = typeof entry === 'string' ? entry : entry.key
      if (typeof entry === 'string') folders.push(entry)
      else objects.push(entry)
    }
    return { objects, folders }
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    checkKey(key)
    throwIfAborted(signal)
    await this.#checkRoot()
    const path = join(this.#root, key)
    try {
      await this.#checkInside(dirname(path), key)
      await unlink(path)
      await syncDirectory(dirname(path))
      await this.#removeEmpty(dirname(path))
    } catch (thrown) {
      if (!isAbsent(thrown)) throw this.#error(thrown, key)
    }
  }

  async listPartial(_prefix: string, signal?: AbortSignal): Promise<readonly PartialUpload[]> {
    throwIfAborted(signal)
    await this.#checkRoot()
    const found: PartialUpload[] = []
    try {
      for (const name of await readdir(join(this.#root, TEMPORARY))) {
        const { mtimeMs } = await stat(join(this.#root, TEMPORARY, name))
        // the name begins with the last part of the key: all that a file name has room for
        found.push({ key: name.slice(0, name.lastIndexOf('.')), id: name, modified: Math.floor(mtimeMs) })
      }
    } catch (thrown) {
      if (!isAbsent(thrown)) throw this.#error(thrown, TEMPORARY)
    }
    return found
  }

  async removePartial(partial: PartialUpload, signal?: AbortSignal): Promise<void> {
    throwIfAborted(signal)
    if (partial.id.includes('/') || partial.id === '..' || partial.id === '.')
      throw new KvidxError('invalid_parameter', `'${partial.id}' is not the id of a partial upload`, { field: 'id' })
    try {
      await rm(join(this.#root, TEMPORARY, partial.id), { force: true })
    } catch (thrown) {
      throw this.#error(thrown, partial.key)
    }
  }

  async close(): Promise<void> {}

  async #write(
    key: string,
    body: ObjectBody,
    signal: AbortSignal | undefined,
    publish: (temporary: string, target: string) => Promise<void>,
  ): Promise<void> {
    throwIfAborted(signal)
    await this.#checkRoot()
    const target = join(this.#root, key)
    const directory = join(this.#root, TEMPORARY)
    const temporary = join(
      directory,
      `${key.slice(key.lastIndexOf('/') + 1).slice(0, 200)}.${randomBytes(8).toString('hex')}`,
    )
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      const file = await open(temporary, 'wx', 0o600)
      try {
        for await (const chunk of chunksOf(body)) {
          throwIfAborted(signal)
          await writeWhole(file, chunk)
        }
        await file.sync()
      } finally {
        await file.close()
      }
      throwIfAborted(signal)
      await this.#publish(key, temporary, target, publish)
    } catch (thrown) {
      await rm(temporary, { force: true }).catch(() => undefined)
      throw this.#error(thrown, key)
    }
  }

  async #publish(
    key: string,
    temporary: string,
    target: string,
    publish: (temporary: string, target: string) => Promise<void>,
  ): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#makeDirectories(dirname(target), key)
        await publish(temporary, target)
        await syncDirectory(dirname(target))
        return
      } catch (thrown) {
        // a deletion beside us took the directory as it was still empty
        if (!isAbsent(thrown) || attempt === 3) throw thrown
      }
    }
  }

  /** A directory goes with its last object; one that is not empty stays. */
  async #removeEmpty(directory: string): Promise<void> {
    for (let path = directory; path.length > this.#root.length; path = dirname(path)) {
      try {
        await rmdir(path)
      } catch {
        return
      }
    }
  }

  /** Makes missing directories and fsyncs the parent of each new one, or a power loss could take the whole branch. */
  async #makeDirectories(path: string, key: string): Promise<void> {
    const first = await mkdir(path, { recursive: true, mode: 0o700 })
    await this.#checkInside(path, key)
    if (first === undefined) return
    for (let at = path; at.length >= first.length; at = dirname(at)) await syncDirectory(dirname(at))
  }

  /** A symbolic link inside the store must not lead out of it. */
  async #checkInside(path: string, key: string): Promise<void> {
    this.#realRoot ??= await realpath(this.#root)
    const real = await realpath(path)
    if (real !== this.#realRoot && !real.startsWith(this.#realRoot + sep))
      throw new KvidxError('store_denied', `${key}: ${path} leads out of the store, to ${real}`)
  }

  async #openForReading(key: string): Promise<FileHandle> {
    await this.#checkRoot()
    const path = join(this.#root, key)
    try {
      await this.#checkInside(dirname(path), key)
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
      if ((await file.stat()).isFile()) return file
      await file.close()
      throw notFound(key, this.location)
    } catch (thrown) {
      if (isAbsent(thrown)) throw notFound(key, this.location)
      throw this.#error(thrown, key)
    }
  }

  async *#read(
    file: FileHandle,
    key: string,
    start: number,
    end: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    try {
      for (let at = start; at < end; ) {
        throwIfAborted(signal)
        const chunk = Buffer.allocUnsafeSlow(Math.min(CHUNK, end - at))
        const { bytesRead } = await file.read(chunk, 0, chunk.length, at)
        if (bytesRead === 0)
          throw new KvidxError('backup_corrupt', `${key} ends at byte ${at}; it had ${end} when it was opened`)
        at += bytesRead
        yield chunk.subarray(0, bytesRead)
      }
    } catch (thrown) {
      throw this.#error(thrown, key)
    } finally {
      await file.close()
    }
  }

  /** Objects in key order; with `folders`, strings for what is folded. Descends only where a key can match. */
  async *#walk(prefix: string, options: ListOptions): AsyncGenerator<ObjectInfo | string> {
    const base = prefix.slice(0, prefix.lastIndexOf('/') + 1)
    const after = options.after ?? ''
    const isAfter = (key: string) => after === '' || key > after
    const visit = async function* (this: DirectoryStore, folder: string): AsyncGenerator<ObjectInfo | string> {
      for (const entry of await this.#entries(folder)) {
        const key = folder + entry.name
        if (entry.isDirectory()) {
          const path = `${key}/`
          if (!path.startsWith(prefix) && !prefix.startsWith(path)) continue
          // everything below sorts before `after`
          if (path < after && !after.startsWith(path)) continue
          if (options.folders && path.length > prefix.length && path.startsWith(prefix)) {
            if (isAfter(path) && (await this.#holdsObject(path))) yield path
          } else yield* visit.call(this, path)
        } else if (entry.isFile() && key.startsWith(prefix) && isAfter(key)) {
          const info = await this.head(key)
          if (info) yield info
        }
      }
    }
    yield* visit.call(this, base)
  }

  /** An S3 store has no empty folders; the leftovers of deletion here are not shown either. */
  async #holdsObject(folder: string): Promise<boolean> {
    for (const entry of await this.#entries(folder)) {
      if (entry.isFile() || (entry.isDirectory() && (await this.#holdsObject(`${folder}${entry.name}/`)))) return true
    }
    return false
  }

  async #entries(folder: string): Promise<Dirent[]> {
    try {
      const entries = await readdir(join(this.#root, folder), { withFileTypes: true })
      const order = (entry: Dirent) => (entry.isDirectory() ? `${entry.name}/` : entry.name)
      return entries.filter(entry => entry.name !== TEMPORARY).sort((a, b) => (order(a) < order(b) ? -1 : 1))
    } catch (thrown) {
      if (isAbsent(thrown)) return []
      throw this.#error(thrown, folder)
    }
  }

  async #checkRoot(): Promise<void> {
    try {
      if ((await stat(this.#root)).isDirectory()) return
    } catch (thrown) {
      if (!isAbsent(thrown)) throw this.#error(thrown, '')
    }
    throw new KvidxError(
      'store_unreachable',
      `${this.location} is not a directory: is the backup volume mounted? (kvidx never makes the store's root)`,
    )
  }

  #error(thrown: unknown, key: string): unknown {
    if (thrown instanceof KvidxError) return thrown
    const { code, message, syscall } = thrown as NodeJS.ErrnoException
    // errors of the body that is being stored are not the store's
    if (syscall === undefined) return thrown
    const where = `${this.location}${key && `/${key}`}`
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
      return new KvidxError('store_denied', `${where}: ${message}`, {}, thrown)
    if (code === 'ENOSPC' || code === 'EDQUOT')
      return new KvidxError('insufficient_space', `${where}: the backup volume is full (${message})`, {}, thrown)
    if (code === 'ELOOP') return new KvidxError('store_denied', `${where} is a symbolic link`, {}, thrown)
    return new KvidxError('store_unreachable', `${where}: ${message}`, {}, thrown)
  }
}

function isAbsent(thrown: unknown): boolean {
  const { code } = thrown as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR'
}

function notFound(key: string, location: string): KvidxError {
  return new KvidxError('backup_not_found', `${key} is not in ${location}`, { key })
}

async function writeWhole(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at, chunk.length - at)).bytesWritten
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DirectoryStore } from '../../../sidecar/backup/store/directory.ts'
import { openDestination, openStoreUrl } from '../../../sidecar/backup/store/open.ts'
import { listObjects } from '../../../sidecar/backup/store/store.ts'
import { systemClock } from '../../../src/common/clock.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kvidx-dir-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** Writes objects as fast as it can; each object's bytes say what its SHA-256 is. */
const WRITER = `
import { createHash, randomBytes } from 'node:crypto'
import { DirectoryStore } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '../../../sidecar/backup/store/directory.ts')).href)}
const store = new DirectoryStore(process.argv[2])
const make = () => { const body = randomBytes(200_000 + Math.floor(Math.random() * 400_000)); return Buffer.concat([createHash('sha256').update(body).digest(), body]) }
process.stdout.write('ready')
for (let i = 0; ; i++) {
  const body = make()
  await Promise.all([store.put('replaced/' + (i % 3), body), store.putIfAbsent('created/' + i, make()), store.put('deep/' + i + '/a/b', (async function* () { for (let at = 0; at < body.length; at += 50_000) yield body.subarray(at, at + 50_000) })())])
}`

describe('the directory store', () => {
  it('has only whole objects after its process was killed at any moment', async () => {
    const script = join(root, 'writer.mts')
    writeFileSync(script, WRITER)
    let objects = 0
    for (let round = 0; round < 8; round++) {
      const directory = join(root, `store-${round}`)
      mkdirSync(directory)
      const child = spawn(process.execPath, [script, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
      await new Promise(resolve => child.stdout.once('data', resolve))
      await systemClock.sleep(40 + round * 23)
      const ended = new Promise(resolve => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
      const store = new DirectoryStore(directory)
      for await (const { key } of listObjects(store, '')) {
        const bytes = readFileSync(join(directory, key))
        expect(createHash('sha256').update(bytes.subarray(32)).digest().equals(bytes.subarray(0, 32)), key).toBe(true)
        objects++
      }
      for (const partial of await store.listPartial('')) await store.removePartial(partial)
      // the directory of partial objects goes with the last of them
      const partials = join(directory, '.kvidx-tmp')
      expect(existsSync(partials) ? readdirSync(partials) : []).toEqual([])
    }
    // how many there are depends on the machine; without any nothing was tested
    expect(objects).toBeGreaterThan(0)
  })

  it('does not make its own root: an unmounted volume is store_unreachable, not an empty store', async () => {
    const store = new DirectoryStore(join(root, 'not-mounted'))
    const error = { code: 'store_unreachable', message: expect.stringMatching(/mounted/) }
    await expect(store.put('x', Buffer.from('x'))).rejects.toMatchObject(error)
    await expect(store.putIfAbsent('x', Buffer.from('x'))).rejects.toMatchObject(error)
    await expect(store.list('')).rejects.toMatchObject(error)
    await expect(store.head('x')).rejects.toMatchObject(error)
    await expect(store.get('x')).rejects.toMatchObject(error)
    expect(existsSync(join(root, 'not-mounted'))).toBe(false)
  })

  it('follows no symbolic link out of itself', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'kvidx-outside-'))
    writeFileSync(join(outside, 'secret'), 'secret')
    symlinkSync(outside, join(root, 'link'))
    symlinkSync(join(outside, 'secret'), join(root, 'file'))
    const store = new DirectoryStore(root)
    await expect(store.get('link/secret')).rejects.toMatchObject({ code: 'store_denied' })
    await expect(store.get('file')).rejects.toMatchObject({ code: 'store_denied' })
    await expect(store.put('link/new', Buffer.from('x'))).rejects.toMatchObject({ code: 'store_denied' })
    await expect(store.delete('link/secret')).rejects.toMatchObject({ code: 'store_denied' })
    expect((await store.list('')).objects).toEqual([])
    expect(readFileSync(join(outside, 'secret'), 'utf8')).toBe('secret')
    expect(readdirSync(outside)).toEqual(['secret'])
    rmSync(outside, { recursive: true })
  })

  it('removes a directory with its last object, also while others write into it', async () => {
    const store = new DirectoryStore(root)
    await store.put('a/b/c', Buffer.from('x'))
    await store.put('a/d', Buffer.from('x'))
    await store.delete('a/b/c')
    expect(readdirSync(join(root, 'a'))).toEqual(['d'])
    const work = Array.from({ length: 40 }, async (_, i) => {
      await store.putIfAbsent(`busy/deep/${i}`, Buffer.from('x'))
      await store.delete(`busy/deep/${i}`)
    })
    await Promise.all(work)
    expect(existsSync(join(root, 'busy'))).toBe(false)
  })

  it('keeps its files from other users', async () => {
    const store = new DirectoryStore(root)
    await store.put('a/b', Buffer.from('x'))
    const { statSync } = await import('node:fs')
    expect(statSync(join(root, 'a')).mode & 0o777).toBe(0o700)
    expect(statSync(join(root, 'a/b')).mode & 0o777).toBe(0o600)
  })

  it('is opened by a URL and by the destination of a spec; a bad one is refused with what is allowed', async () => {
    const options = { clock: systemClock, volumePath: root }
    const store = await openStoreUrl(pathToFileURL(root).href, { clock: systemClock })
    await store.put('x', Buffer.from('x'))
    expect(await openDestination({ volume: {} }, options).head('x')).toMatchObject({ size: 1 })
    const bad = [
      'nonsense',
      'file://host/dir',
      'file:///d?x=1',
      'http://x/y',
      's3://B/x',
      's3://bucket?color=red',
      's3://bucket?pathStyle=maybe',
      's3://key:secret@bucket/',
      's3://bucket?endpoint=ftp://x',
      's3://bucket?caFile=/none',
    ]
    for (const url of bad)
      await expect(
        openStoreUrl(url, { clock: systemClock, credentials: () => ({ accessKeyId: 'a', secretAccessKey: 'b' }) }),
        url,
      ).rejects.toMatchObject({
        code: expect.stringMatching(/invalid_parameter|unknown_parameter/),
        message: expect.not.stringMatching(/secret@/),
      })
    await expect(openStoreUrl('s3://bucket', { clock: systemClock })).rejects.toMatchObject({ code: 'store_denied' })
    expect(() => openDestination({ volume: {} }, { clock: systemClock })).toThrow(/volumePath|absolute path/)
  })
})

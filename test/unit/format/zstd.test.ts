import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { readAll } from '../../../sidecar/backup/store/body.ts'
import { compress, decompress } from '../../../sidecar/format/zstd.ts'

const MIB = 1024 * 1024

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
const squeeze = (plain: Uint8Array) => readAll(compress(pieces(plain, 777_777)), 64 * MIB, 'x')
const expand = (stored: Uint8Array, size = 333_333) => readAll(decompress(pieces(stored, size)), 64 * MIB, 'x')

describe('compression', () => {
  const plain = Buffer.concat([Buffer.alloc(5 * MIB, 'kvidx'), randomBytes(5 * MIB)])

  it('gives back what went in, of any size, with chunks of any size', async () => {
    for (const size of [0, 1, 4 * MIB, 4 * MIB + 1, plain.length]) {
      const stored = await squeeze(plain.subarray(0, size))
      expect((await expand(stored)).equals(plain.subarray(0, size))).toBe(true)
    }
    expect((await expand(await squeeze(plain.subarray(0, 100_000)), 7)).equals(plain.subarray(0, 100_000))).toBe(true)
  })

  it('is read by the zstd program, and reads what that wrote', async ({ skip }) => {
    if (spawnSync('zstd', ['--version']).status !== 0) skip('there is no zstd program here')
    const read = spawnSync('zstd', ['-dc'], { input: await squeeze(plain), maxBuffer: 64 * MIB })
    expect(read.stdout.equals(plain)).toBe(true)
    const written = spawnSync('zstd', ['-19', '-c'], { input: plain.subarray(0, 6 * MIB), maxBuffer: 64 * MIB })
    expect((await expand(written.stdout)).equals(plain.subarray(0, 6 * MIB))).toBe(true)
  })

  it('reads files of any frames: small, large, skippable, of much that is alike', async () => {
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3])
    const parts = [
      randomBytes(10),
      Buffer.alloc(0),
      randomBytes(9 * MIB),
      randomBytes(3 * MIB),
      Buffer.alloc(20 * MIB, 7),
      randomBytes(1000),
    ]
    const stored = Buffer.concat([skippable, ...parts.flatMap(part => [zstdCompressSync(part), skippable])])
    for (const size of [97_003, 1 << 20, 1 << 26])
      expect((await expand(stored, size)).equals(Buffer.concat(parts)), String(size)).toBe(true)
  })

  it('refuses what is empty, cut off, damaged or followed by something', async () => {
    const stored = await squeeze(plain)
    for (const length of [0, 1, 5, 1000, stored.length - 1])
      await expect(expand(stored.subarray(0, length)), String(length)).rejects.toMatchObject({ code: 'backup_corrupt' })
    for (const tail of ['t', 'ta', 'tail', 'a long tail that is no frame']) {
      const followed = Buffer.concat([stored, Buffer.from(tail)])
      for (const chunk of [1 << 24, 1_000_003, followed.length - tail.length])
        await expect(expand(followed, chunk), tail).rejects.toMatchObject({ code: 'backup_corrupt' })
    }
    const broken = Buffer.from(stored)
    broken[stored.length - 1000] = (broken[stored.length - 1000] ?? 0) ^ 1
    await expect(expand(broken)).rejects.toMatchObject({ code: 'backup_corrupt' })
  })

  it('hands on an error of its source as it is, and ends when nobody reads on', async () => {
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield (await squeeze(plain)).subarray(0, 1000)
      throw new Error('the network broke')
    }
    await expect(readAll(decompress(failing()), MIB, 'x')).rejects.toThrow('the network broke')
    await expect(readAll(compress(failing()), MIB, 'x')).rejects.toThrow('the network broke')
    let closed = false
    async function* source(): AsyncGenerator<Uint8Array> {
      try {
        yield await squeeze(plain)
      } finally {
        closed = true
      }
    }
    for await (const _ of decompress(source())) break
    await new Promise(resolve => setImmediate(resolve))
    expect(closed).toBe(true)
  })
})

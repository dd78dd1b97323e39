import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decrypt, encrypt } from '../../../sidecar/backup/crypt.ts'
import { KeyRing, masterKey, NO_KEYS, parseMasterKey } from '../../../sidecar/backup/key-ring.ts'
import { readAll } from '../../../sidecar/backup/store/body.ts'

const MIB = 1024 * 1024
const FRAME = MIB + 16
const HEADER = 80
const key = masterKey(Buffer.alloc(32, 7))
const other = masterKey(Buffer.alloc(32, 8))
const ring = new KeyRing([key])

async function* pieces(bytes: Uint8Array, size = 300_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
const seal = (plain: Uint8Array) => readAll(encrypt(pieces(plain), key), 64 * MIB, 'x')
const open = (sealed: Uint8Array, keys = ring, size = 300_000) =>
  readAll(decrypt(pieces(sealed, size), keys), 64 * MIB, 'x')

describe('encryption', () => {
  it('gives back the plaintext of every size around its frames, however it is cut into chunks', async () => {
    for (const size of [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 5]) {
      const plain = randomBytes(size)
      const sealed = await seal(plain)
      expect(sealed.length).toBe(HEADER + size + 16 * Math.max(1, Math.ceil(size / MIB)))
      expect((await open(sealed)).equals(plain)).toBe(true)
      expect((await open(sealed, ring, 79)).equals(plain)).toBe(true)
    }
  })

  it('never makes the same file twice', async () => {
    const plain = Buffer.from('the same')
    expect((await seal(plain)).equals(await seal(plain))).toBe(false)
  })

  it('reads old files after the key was rotated, by the key that each file names', async () => {
    const old = await seal(Buffer.from('old'))
    const rotated = new KeyRing([other, key])
    expect(rotated.current?.id).toBe(other.id)
    expect((await open(old, rotated)).toString()).toBe('old')
  })

  it('says wrong_encryption_key, naming the key of the file and the given ones', async () => {
    const sealed = await seal(Buffer.from('x'))
    const error = { code: 'wrong_encryption_key', message: expect.stringMatching(`${key.id}.*${other.id}`) }
    await expect(open(sealed, new KeyRing([other]))).rejects.toMatchObject(error)
    await expect(open(sealed, NO_KEYS)).rejects.toMatchObject({ code: 'wrong_encryption_key' })
  })

  it('finds every damaged bit, wherever it is', async () => {
    const sealed = await seal(randomBytes(2 * MIB + 100))
    const positions = fc.oneof(fc.nat(HEADER * 8 - 1), fc.nat(sealed.length * 8 - 1))
    await fc.assert(
      fc.asyncProperty(positions, async bit => {
        const broken = Buffer.from(sealed)
        broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        const code = await open(broken).then(
          () => 'accepted',
          thrown => thrown.code,
        )
        expect(['backup_corrupt', 'wrong_encryption_key']).toContain(code)
      }),
      { numRuns: 150 },
    )
  })

  it('finds a file that is cut off, also between two frames', async () => {
    const sealed = await seal(randomBytes(2 * MIB + 100))
    for (const length of [
      0,
      1,
      HEADER - 1,
      HEADER,
      HEADER + 1,
      HEADER + 15,
      HEADER + FRAME - 1,
      HEADER + FRAME,
      HEADER + 2 * FRAME,
      sealed.length - 1,
    ]) {
      await expect(open(sealed.subarray(0, length)), String(length)).rejects.toMatchObject({ code: 'backup_corrupt' })
    }
    await expect(open(sealed.subarray(0, HEADER + FRAME))).rejects.toThrow(/cut off behind frame 0/)
  })

  it('finds frames that are swapped, doubled, left out, added or of another file', async () => {
    const one = await seal(randomBytes(2 * MIB + 100))
    const two = await seal(randomBytes(2 * MIB + 100))
    const header = one.subarray(0, HEADER)
    const [a, b, c] = [0, 1, 2].map(i => one.subarray(HEADER + i * FRAME, HEADER + (i + 1) * FRAME)) as [
      Buffer,
      Buffer,
      Buffer,
    ]
    const cases = {
      swapped: [header, b, a, c],
      doubled: [header, a, a, b, c],
      'left out': [header, a, c],
      'last one twice': [header, a, b, c, c],
      'bytes behind': [header, a, b, c, Buffer.from('x')],
      'a frame of another file': [header, two.subarray(HEADER, HEADER + FRAME), b, c],
      'the header of another file': [two.subarray(0, HEADER), a, b, c],
    }
    for (const [name, parts] of Object.entries(cases))
      await expect(open(Buffer.concat(parts)), name).rejects.toMatchObject({ code: 'backup_corrupt' })
  })

  it('takes keys as raw bytes, hex and base64, and never repeats a bad one in the message', () => {
    const bytes = Buffer.alloc(32, 7)
    expect(parseMasterKey(bytes).id).toBe(key.id)
    expect(parseMasterKey(Buffer.from(`${bytes.toString('hex')}\n`)).id).toBe(key.id)
    expect(parseMasterKey(Buffer.from(bytes.toString('base64'))).id).toBe(key.id)
    expect(() => parseMasterKey(Buffer.from('secret-but-short'))).toThrow(/16 bytes that are no key/)
    expect(() => parseMasterKey(Buffer.from('secret-but-short'))).not.toThrow(/secret-but-short/)
  })
})

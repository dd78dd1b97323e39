import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { encrypt } from '../../../sidecar/backup/crypt.ts'
import { masterKey } from '../../../sidecar/backup/key-ring.ts'
import { readAll } from '../../../sidecar/backup/store/body.ts'

const python = spawnSync('python3', ['-c', 'import cryptography']).status === 0
if (!python)
  console.warn('\n*** python3 with the package cryptography is not here: the documented decryptor is NOT tested ***\n')

const documentation = readFileSync(join(import.meta.dirname, '../../../docs/formats.md'), 'utf8')
const program = /```python\n([\s\S]*?)```/.exec(documentation)?.[1] ?? ''

describe('the decryptor in docs/formats.md', () => {
  it('has at most 35 lines', () => {
    expect(program.trim().split('\n').length).toBeLessThanOrEqual(35)
    expect(program).toContain('KVIDXENC')
  })

  it.skipIf(!python)(
    'decrypts what we encrypt, and refuses a wrong key and every kind of damage',
    async () => {
      const directory = mkdtempSync(join(tmpdir(), 'kvidx-python-'))
      const script = join(directory, 'decrypt.py')
      writeFileSync(script, program)
      const key = masterKey(randomBytes(32))
      writeFileSync(join(directory, 'raw'), key.bytes)
      writeFileSync(join(directory, 'hex'), `${key.bytes.toString('hex')}\n`)
      writeFileSync(join(directory, 'other'), randomBytes(32))
      const run = (keyFile: string, input: Buffer) =>
        spawnSync('python3', [script, join(directory, keyFile)], { input, maxBuffer: 64 << 20 })
      async function* source(plain: Buffer) {
        yield plain
      }
      for (const size of [0, 5, 1 << 20, (2 << 20) + 3]) {
        const plain = randomBytes(size)
        const file = await readAll(encrypt(source(plain), key), 64 << 20, 'x')
        for (const name of ['raw', 'hex']) {
          const { status, stdout } = run(name, file)
          expect([status, createHash('sha256').update(stdout).digest('hex')]).toEqual([
            0,
            createHash('sha256').update(plain).digest('hex'),
          ])
        }
        expect(run('other', file).stderr.toString()).toMatch(/needs key [0-9a-f]{16}, this is key/)
        expect(run('raw', file.subarray(0, -1)).status).toBe(1)
        const broken = Buffer.from(file)
        broken[20] = (broken[20] ?? 0) ^ 1
        expect(run('raw', broken).stderr.toString()).toMatch(/header is damaged/)
      }
      rmSync(directory, { recursive: true })
    },
    60_000,
  )
})

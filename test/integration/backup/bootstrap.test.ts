import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { standalonePaths } from '../../../src/standalone/paths.ts'
import { kvidx } from '../cli/harness.ts'
import { type Running, remove, startRunning } from './running.ts'

let source: Running
const states = new Map<string, { digest: bigint; count: bigint; time: number }>()
beforeAll(async () => {
  source = await startRunning({ backup: { continuous: { enabled: true, interval: '100ms' } } })
  const note = (name: string) => {
    const { digest, count, time } = source.sidecar.database.state
    states.set(name, { digest, count, time: Number(time) })
  }
  for (let key = 0; key < 30; key++) await source.put(key, `value ${key}`, key % 4 === 0 ? '?ttl=1h' : '')
  await kvidx(['backup', 'create', 'base', '--server', source.url])
  note('base')
  await new Promise(resolve => setTimeout(resolve, 10))
  for (let key = 0; key < 30; key += 3) await source.put(key, `changed ${key}`)
  note('later')
  await new Promise(resolve => setTimeout(resolve, 10))
  await source.put(100, 'last')
  note('last')
  await source.stop()
}, 60_000)
afterAll(() => remove(source))

/** A new database whose bootstrap volume is what a path leads to. */
async function startNew(
  bootstrap: object,
  engine: 'SQLite' | 'LMDB' | 'RocksDB',
  volume = source.backups,
): Promise<Running> {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-new-'))
  const { directory } = standalonePaths(root, 'default', 'copy')
  mkdirSync(directory, { recursive: true })
  symlinkSync(volume, join(directory, 'bootstrap'))
  return startRunning({ root, name: 'copy', engine, spec: { bootstrap } })
}

const from = { database: 'orders', volume: { claimName: 'orders-backups' } }
const identityOf = (running: Running) => JSON.parse(readFileSync(join(running.data, 'identity.json'), 'utf8'))

describe('a new database', () => {
  test.each([
    ['the newest change', 'LMDB', () => ({ source: from }), 'last'],
    ['a time', 'RocksDB', () => ({ source: from, time: new Date(states.get('later')!.time).toISOString() }), 'later'],
    ['a position', 'SQLite', () => ({ source: from, position: '1.30' }), 'base'],
  ] as const)('begins with %s of another one, on %s, in a lineage of its own', async (_, engine, restore, wanted) => {
    const running = await startNew({ restore: restore() }, engine)
    try {
      const { state, lineage, epochs } = running.sidecar.database
      expect({ digest: state.digest, count: state.count }).toEqual({
        digest: states.get(wanted)!.digest,
        count: states.get(wanted)!.count,
      })
      expect(lineage).not.toBe(source.sidecar.database.lineage)
      expect(epochs).toMatchObject([{ epoch: 1n, reason: 'restored' }])
      expect(identityOf(running).origin).toMatchObject({ count: String(state.count), lineage: expect.any(String) })
      await running.put(7, 'it takes writes')
      // its own backups begin anew
      const made = await kvidx(['backup', 'create', 'own', '--server', running.url, '--output', 'json'])
      expect([made.code, made.notes]).toEqual([0, ''])
      // and the next start is an ordinary one, although the spec still has the block
      await running.stop()
      const again = await startRunning({
        root: running.root,
        name: 'copy',
        engine,
        spec: { bootstrap: { restore: restore() } },
      })
      expect(again.sidecar.database.lineage).toBe(lineage)
      expect(again.sidecar.database.state.position.seq).toBe(state.position.seq + 1n)
      await again.stop()
    } finally {
      remove(running)
    }
  })

  test.each([['JSON', 'SQLite', '{"format":"kvidx-json","version":1,"entries":[]}']] as const)(
    'does not begin with a file that is no export (%s), and leaves nothing',
    async (format, engine, text) => {
      const files = mkdtempSync(join(tmpdir(), 'kvidx-files-'))
      writeFileSync(join(files, 'data'), `${text}trailing`)
      const root = mkdtempSync(join(tmpdir(), 'kvidx-new-'))
      const { directory, data } = standalonePaths(root, 'default', 'copy')
      mkdirSync(directory, { recursive: true })
      symlinkSync(files, join(directory, 'bootstrap'))
      const spec = { bootstrap: { import: { format, path: 'data', volume: { claimName: 'x' } } } }
      const { startSidecar } = await import('../../../sidecar/main.ts')
      const { writeConfig } = await import('./running.ts')
      const configFile = writeConfig(root, 'copy', engine, spec)
      const host = '127.0.0.1'
      const options = {
        configFile,
        dataDirectory: data,
        host,
        opsHost: host,
        dataPort: 0,
        opsPort: 0,
        node: 'n',
        pod: 'p',
      }
      const sidecar = await startSidecar(options)
      sidecar.serving.catch(() => {})
      await expect.poll(() => sidecar.database.failure?.code, { timeout: 15_000 }).toBe('invalid_body')
      await sidecar.stop()
      expect(() => readFileSync(join(data, 'identity.json'))).toThrow(/ENOENT/)
      rmSync(root, { recursive: true, force: true })
      rmSync(files, { recursive: true, force: true })
    },
  )

  test.each([
    ['CSV', 'LMDB'],
    ['Binary', 'RocksDB'],
    ['SQLite', 'SQLite'],
  ] as const)('imports %s into %s', async (format, engine) => {
    const files = mkdtempSync(join(tmpdir(), 'kvidx-files-'))
    if (format === 'CSV')
      writeFileSync(join(files, 'data'), 'key,term,cmd,data\n5,1,2,five\n18446744073709551615,0,0,last\n')
    else {
      const running = await startRunning({ engine: 'SQLite', name: 'maker' })
      await running.put(5, 'five', '?term=1&cmd=2')
      await running.put(2n ** 64n - 1n, 'last')
      if (format === 'Binary') {
        const exported = await fetch(`${running.url}/v1/export?format=binary`)
        writeFileSync(join(files, 'data'), Buffer.from(await exported.arrayBuffer()))
        await running.stop()
      } else {
        await running.stop()
        writeFileSync(join(files, 'data'), readFileSync(join(running.data, 'db', 'main.db')))
      }
      remove(running)
    }
    const running = await startNew({ import: { format, path: 'data', volume: { claimName: 'x' } } }, engine, files)
    const record = await fetch(`${running.url}/v1/records/5`)
    expect([await record.text(), record.headers.get('kvidx-term')]).toEqual(['five', '1'])
    expect(running.sidecar.database.state.count).toBe(2n)
    expect(running.sidecar.database.epochs).toMatchObject([{ epoch: 1n, reason: 'imported' }])
    await running.stop()
    remove(running)
    rmSync(files, { recursive: true, force: true })
  })
})

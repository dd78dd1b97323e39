import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { kvidx } from '../cli/harness.ts'
import { type Running, remove, startRunning } from './running.ts'
import { Random } from './source.ts'

const ENGINES = ['SQLite', 'LMDB', 'RocksDB'] as const
/** Restores of random moments for each engine. */
const MOMENTS = 2
const json = (out: string) => JSON.parse(out.trim().split('\n').at(-1)!)

describe.each(ENGINES)('in place on %s', engine => {
  let running: Running
  const random = new Random(7)
  /** Kept outside of the database: what it answered for each acknowledged write, and when. */
  const ledger: Array<{ position: string; time: number; digest: bigint; count: bigint }> = []

  async function churn(writes: number) {
    for (let i = 0; i < writes; i++) {
      const key = random.below(60)
      if (random.below(5) === 0) await fetch(`${running.url}/v1/records/${key}`, { method: 'DELETE' })
      else await running.put(key, `value ${random.below(1000)}`, random.below(4) === 0 ? '?ttl=1h' : '')
      const { position, time, digest, count } = running.sidecar.database.state
      ledger.push({ position: `${position.epoch}.${position.seq}`, time: Number(time), digest, count })
      if (i % 10 === 0) await new Promise(resolve => setTimeout(resolve, 3))
    }
  }
  const restore = (...args: string[]) => kvidx(['restore', ...args, '--server', running.url, '--output', 'json'])
  let base: Map<string, string>
  const recordsOf = async (url: string) => {
    const lines = (await (await fetch(`${url}/v1/records`)).text()).trim().split('\n').slice(0, -1)
    return new Map(lines.map(line => [JSON.parse(line).key as string, line]))
  }
  const now = () => running.sidecar.database.state

  beforeAll(async () => {
    running = await startRunning({ engine, backup: { continuous: { enabled: true, interval: '100ms' } } })
    await churn(40)
    const made = await kvidx(['backup', 'create', 'base', '--server', running.url, '--output', 'json'])
    expect([made.code, made.notes]).toEqual([0, ''])
    base = await recordsOf(running.url)
    await churn(120)
  }, 60_000)
  afterAll(async () => {
    await running.stop()
    remove(running)
  })

  test('a dry run counts what would change, and changes nothing', async () => {
    const before = now()
    const ran = await restore('base', '--dry-run')
    expect([ran.code, ran.notes]).toEqual([0, ''])
    const told = json(ran.out)
    expect(now()).toEqual(before)
    // counted once more, by hand
    const current = await recordsOf(running.url)
    const differ = (keys: Iterable<string>, test: (key: string) => boolean) => [...keys].filter(test).length
    expect(told.added).toBe(differ(base.keys(), key => !current.has(key)))
    expect(told.removed).toBe(differ(current.keys(), key => !base.has(key)))
    expect(told.changed).toBe(differ(base.keys(), key => current.has(key) && current.get(key) !== base.get(key)))
    expect(told.added + told.removed + told.changed).toBeGreaterThan(0)
    expect(BigInt(told.records)).toBe(before.count - BigInt(told.removed) + BigInt(told.added))
    expect(current.size).toBe(Number(before.count))
  })

  test('restores to random moments, each as the ledger says', async () => {
    for (let i = 0; i < MOMENTS; i++) {
      const known = ledger.filter(entry => entry.position.startsWith('1.'))
      const picked = known[40 + random.below(known.length - 40)]!
      // every commit with this time or an earlier one
      const wanted = known.filter(entry => entry.time <= picked.time).at(-1)!
      const args = i === 0 ? ['--at', picked.position] : ['--at', new Date(picked.time).toISOString()]
      const expected = i === 0 ? picked : wanted
      // a time is looked for on the current ancestry, so only the first restore may go by time; later ones name positions
      const ran = await restore(...(i === 0 ? args : ['--at', expected.position]))
      expect([ran.code, ran.notes]).toEqual([0, ''])
      expect(json(ran.out)).toMatchObject({ phase: 'Completed', target: expected.position })
      expect([now().digest, now().count]).toEqual([expected.digest, expected.count])
      expect(now().position.epoch).toBe(BigInt(i + 2))
    }
  })

  test('undo goes back to what was there, in a new epoch, and quarantine keeps both', async () => {
    await churn(5)
    const before = now()
    const at = new Date(Number(before.time)).toISOString()
    expect((await restore('base')).code).toBe(0)
    expect(now().digest).not.toBe(before.digest)
    const undone = await restore('--undo')
    expect([undone.code, undone.notes]).toEqual([0, ''])
    expect([now().digest, now().count, now().position.seq]).toEqual([before.digest, before.count, before.position.seq])
    // and by time, on the ancestry that the undo went back to
    await churn(3)
    const ran = await restore('--at', at)
    expect([ran.code, ran.notes]).toEqual([0, ''])
    expect(now().digest).toBe(before.digest)
    const listed = await kvidx(['quarantine', 'list', '--server', running.url, '--output', 'json'])
    const entries = json(listed.out)
    expect(entries.length).toBeGreaterThanOrEqual(5)
    const removed = await kvidx(['quarantine', 'remove', entries.at(-1).name, '--server', running.url])
    expect(removed.code).toBe(0)
    expect(json((await kvidx(['quarantine', 'list', '--server', running.url, '--output', 'json'])).out)).toHaveLength(
      entries.length - 1,
    )
  })

  test('does nothing when the epoch is no longer the one it was meant for, or the backup is not there', async () => {
    const before = now()
    const late = await restore('base', '--at-epoch', '1')
    expect(late.code).not.toBe(0)
    expect(late.notes).toMatch(/epoch 1.*nothing was done/)
    const missing = await restore('nothing-like-it')
    expect(missing.code).toBe(3)
    expect(now()).toEqual(before)
    await running.put(1, 'it goes on')
  })

  test('continuous backup goes on in the new epoch, and the next increment is Full', async () => {
    await churn(10)
    const { seq, epoch } = now().position
    await expect
      .poll(async () => (await running.status()).backup.continuous, { timeout: 10_000 })
      .toMatchObject({ state: 'Shipping', shipped: `${epoch}.${seq}`, backlogChanges: 0, rpoMs: 0, gaps: [] })
    const made = await kvidx([
      'job',
      'backup',
      '--schedule',
      'hourly',
      '--config',
      running.configFile,
      '--server',
      running.url,
    ])
    expect([made.code, made.notes]).toEqual([0, ''])
    expect(json(made.out)).toMatchObject({ type: 'Full', fallback: expect.stringMatching(/restored/) })
    const drill = await kvidx(['backup', 'drill', '--server', running.url, '--output', 'json'])
    expect([drill.code, drill.notes]).toEqual([0, ''])
  })
})

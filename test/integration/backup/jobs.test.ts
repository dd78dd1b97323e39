import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { DirectoryStore } from '../../../sidecar/backup/store/directory.ts'
import { kvidx } from '../cli/harness.ts'
import { type Running, remove, startRunning } from './running.ts'

let running: Running
beforeAll(async () => {
  running = await startRunning()
  for (let key = 0; key < 50; key++) await running.put(key, `value ${key}`, key % 5 === 0 ? '?ttl=1h' : '')
})
afterAll(async () => {
  await running.stop()
  remove(running)
})

const json = (out: string) => JSON.parse(out.trim().split('\n').at(-1)!)
const job = (verb: string, ...args: string[]) =>
  kvidx(['job', verb, '--config', running.configFile, '--server', running.url, ...args])
const backup = (...args: string[]) => kvidx(['backup', ...args, '--server', running.url, '--output', 'json'])

describe('a backup job', () => {
  test('stores a Full, verifies it against what the database recorded, and says so in one line', async () => {
    const resultFile = join(running.root, 'result.json')
    const ran = await job(
      'backup',
      '--schedule',
      'daily',
      '--slot',
      '2026-11-23T02:00:00Z',
      '--result-file',
      resultFile,
    )
    expect([ran.code, ran.notes]).toEqual([0, ''])
    const result = json(ran.out)
    const { state } = running.sidecar.database
    expect(result).toMatchObject({
      name: 'orders-daily-20261123t0200z',
      phase: 'Completed',
      type: 'Full',
      position: `${state.position.epoch}.${state.position.seq}`,
      records: 50,
      verification: 'Verified',
      schedule: 'daily',
    })
    expect(result.digest).toBe(state.digest.toString(16).padStart(32, '0'))
    expect(JSON.parse(readFileSync(resultFile, 'utf8'))).toEqual(result)
    expect((await running.status()).backup).toMatchObject({
      lastSuccessful: { name: result.name },
      lastVerified: { name: result.name },
    })
  })

  test('of the same slot again takes what is stored', async () => {
    const again = await job('backup', '--schedule', 'daily', '--slot', '2026-11-23T02:00:00Z')
    expect(again.code).toBe(0)
    expect(json(again.out)).toMatchObject({ phase: 'Completed', verification: 'Verified' })
    const { backups } = json((await backup('list')).out)
    expect(backups).toHaveLength(1)
  })

  test('stores an increment of updates, removes and expiries, and claims the log for its schedule', async () => {
    await running.put(1, 'changed')
    await fetch(`${running.url}/v1/records/2`, { method: 'DELETE' })
    await fetch(`${running.url}/v1/records/3/expiry?ttl=2h`, { method: 'PUT' })
    const ran = await job('backup', '--schedule', 'hourly', '--verify')
    expect([ran.code, ran.notes]).toEqual([0, ''])
    const result = json(ran.out)
    expect(result).toMatchObject({ type: 'Incremental', phase: 'Completed', verification: 'Verified', records: 49 })
    expect(result.parent).toMatch(/orders-daily/)
    const source = (await (await fetch(`${running.url}/v1/admin/source`)).json()) as {
      consumers: Record<string, { position: string }>
    }
    expect(source.consumers['schedule/hourly']?.position).toBe(result.position)
  })

  test('becomes Full, and says why, when the store has no parent', async () => {
    const other = await startRunning({
      backup: {
        schedules: [
          { name: 'daily', schedule: '@daily', type: 'Full' },
          { name: 'inc', schedule: '@hourly', type: 'Incremental' },
        ],
      },
    })
    try {
      await other.put(1, 'a')
      const ran = await kvidx([
        'job',
        'backup',
        '--config',
        other.configFile,
        '--server',
        other.url,
        '--schedule',
        'inc',
      ])
      expect(ran.code).toBe(0)
      expect(json(ran.out)).toMatchObject({ type: 'Full', fallback: 'the store has no backup of this lineage' })
    } finally {
      await other.stop()
      remove(other)
    }
  })

  test('fails with an exit code when the backup was damaged under way', async () => {
    const made = json((await backup('create', 'by-hand', '--no-verify')).out)
    expect(made).toMatchObject({ phase: 'Completed', verification: 'Skipped' })
    const directory = made.location.slice('file://'.length)
    const file = join(directory, 'records.kvidx.zst')
    const bytes = readFileSync(file)
    bytes[bytes.length - 5]! ^= 1
    writeFileSync(file, bytes)
    const verified = await backup('verify', 'by-hand')
    expect(verified.code).not.toBe(0)
    expect(json(verified.out)).toMatchObject({ name: 'by-hand', result: 'Failed' })
    const all = await backup('verify', '--all')
    expect(all.code).not.toBe(0)
    const results = all.out
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    expect(results.map(({ result }: { result: string }) => result).sort()).toEqual(['Failed', 'Verified', 'Verified'])
  })
})

describe('a Full that nobody asked to verify', () => {
  const HARM: Record<string, (file: string) => void> = {
    damaged: file => {
      const bytes = readFileSync(file)
      bytes[bytes.length - 5]! ^= 1
      writeFileSync(file, bytes)
    },
    truncated: file => truncateSync(file, statSync(file).size - 9),
    lost: file => rmSync(file),
  }
  let other: Running
  beforeAll(async () => {
    other = await startRunning()
    await other.put(1, 'one')
  })
  afterAll(async () => {
    await other.stop()
    remove(other)
  })
  const make = (name: string) =>
    kvidx(['job', 'backup', '--config', other.configFile, '--server', other.url, '--name', name])

  test('is Completed when the store has it', async () => {
    const ran = await make('sound')
    expect([ran.code, json(ran.out)]).toMatchObject([0, { phase: 'Completed', verification: 'Skipped' }])
  })

  test.each(Object.keys(HARM))('is read back all the same: what the store has %s is not Completed', async harm => {
    const { put } = DirectoryStore.prototype
    const store = vi.spyOn(DirectoryStore.prototype, 'put').mockImplementation(async function (
      this: DirectoryStore,
      key,
      ...rest
    ) {
      await put.call(this, key, ...rest)
      HARM[harm]?.(join(other.backups, key))
    })
    const ran = await make(harm).finally(() => store.mockRestore())
    expect(json(ran.out)).toMatchObject({ phase: 'Failed', code: 'backup_corrupt' })
    expect(ran.code).not.toBe(0)
    expect((await other.status()).backup.lastSuccessful.name).toBe('sound')
  })
})

describe('a name', () => {
  let other: Running
  beforeAll(async () => {
    other = await startRunning()
    await other.put(1, 'base')
  })
  afterAll(async () => {
    vi.useRealTimers()
    await other.stop()
    remove(other)
  })
  const create = (...args: string[]) =>
    kvidx(['backup', 'create', ...args, '--no-verify', '--server', other.url, '--output', 'json'])

  test('that nobody gave is of one backup only: two of one second are two, each of the type that was asked for', async () => {
    // the clock goes on, but not into the next second
    const second = Math.floor(Date.now() / 1000) * 1000
    expect(json((await create()).out)).toMatchObject({ type: 'Full' })
    await other.put(2, 'more')
    vi.useFakeTimers({ toFake: ['Date'], now: second + 100 })
    const increment = json((await create('--type', 'Incremental')).out)
    vi.setSystemTime(second + 101)
    const full = json((await create('--type', 'Full')).out)
    vi.useRealTimers()
    expect([increment.type, full.type]).toEqual(['Incremental', 'Full'])
    expect(increment.name.slice(0, -4)).toBe(full.name.slice(0, -4))
    expect(increment.name < full.name).toBe(true)
    const list = json((await kvidx(['backup', 'list', '--server', other.url, '--output', 'json'])).out)
    expect(list.backups).toHaveLength(3)
  })

  test('that the store has is refused to who makes one by hand, and to a job that would take an increment for a Full', async () => {
    expect((await create('mine', '--type', 'Incremental')).code).toBe(0)
    await other.put(3, 'not in it')
    const again = await create('mine', '--type', 'Incremental')
    expect([again.code, json(again.out)]).toEqual([1, expect.objectContaining({ code: 'backup_exists' })])
    const job = await kvidx(
      ['job', 'backup', '--config', other.configFile, '--server', other.url].concat('--name', 'mine', '--type', 'Full'),
    )
    expect(json(job.out)).toMatchObject({ phase: 'Failed', code: 'backup_exists' })
    expect(json(job.out).error).toContain("has the Incremental 'mine' already")
    expect((await other.status()).backup.failures).toBe(0)
  })
})

describe('increments', () => {
  let other: Running
  beforeAll(async () => {
    other = await startRunning({})
    await other.put(1, 'base')
    expect((await of('create', 'first')).code).toBe(0)
  })
  afterAll(async () => {
    await other.stop()
    remove(other)
  })
  const of = (...args: string[]) => kvidx(['backup', ...args, '--server', other.url, '--output', 'json'])
  const results = async () =>
    Object.fromEntries(
      json((await of('list')).out).backups.map((its: { name: string; verification: string }) => [
        its.name,
        its.verification,
      ]),
    )
  const increment = async (name: string) => {
    for (let key = 2; key < 10; key++) await other.put(key, `of ${name}`)
    expect((await of('create', name, '--type', 'Incremental', '--no-verify')).code).toBe(0)
  }

  test('are verified by one replay at the next Full, against what the database recorded', async () => {
    for (const name of ['one', 'two', 'three']) await increment(name)
    expect(await results()).toMatchObject({ one: 'Skipped', two: 'Skipped', three: 'Skipped' })
    const made = json((await of('create', 'second')).out)
    expect(made).toMatchObject({ phase: 'Completed', verification: 'Verified' })
    expect(made.increments.map((its: { name: string; result: string }) => [its.name, its.result])).toEqual([
      ['three', 'Verified'],
      ['one', 'Verified'],
      ['two', 'Verified'],
    ])
    expect(await results()).toMatchObject({ one: 'Verified', two: 'Verified', three: 'Verified', second: 'Verified' })
    // nothing is left to do
    expect(json((await of('create', 'third')).out).increments).toBeUndefined()
  })

  test('are verified at a Full that is not verified, too, and on top of it', async () => {
    await increment('old')
    await increment('older')
    const quick = json((await of('create', 'quick', '--no-verify')).out)
    expect(quick).toMatchObject({ phase: 'Completed', verification: 'Skipped' })
    expect(quick.increments.map(({ name }: { name: string }) => name)).toEqual(['older', 'old'])
    expect(await results()).toMatchObject({ old: 'Verified', older: 'Verified', quick: 'Skipped' })
    await increment('young')
    const made = json((await of('create', 'fourth')).out)
    expect(made.increments.map(({ name }: { name: string }) => name)).toEqual(['young'])
    expect(await results()).toMatchObject({ young: 'Verified', quick: 'Skipped' })
    const { verification } = json((await of('show', 'young')).out)
    expect(verification.chain).toEqual([expect.stringMatching(/-quick$/), expect.stringMatching(/-young$/)])
  })

  test('on a Full that nobody verified are refuted by its damage, which is named', async () => {
    expect((await of('create', 'unproven', '--no-verify')).code).toBe(0)
    await increment('upon')
    const { path } = json((await of('show', 'unproven')).out)
    const file = join(other.backups, path, 'records.kvidx.zst')
    const bytes = readFileSync(file)
    bytes[bytes.length >> 1]! ^= 1
    writeFileSync(file, bytes)
    const made = json((await of('create', 'fifth', '--no-verify')).out)
    expect(made).toMatchObject({ phase: 'Completed', verification: 'Skipped' })
    expect(made.increments).toEqual([
      expect.objectContaining({ name: 'upon', result: 'Failed', error: expect.stringContaining('-unproven') }),
      expect.objectContaining({ name: 'unproven', result: 'Failed', code: 'backup_corrupt' }),
    ])
    // it would count as good for retention and as a parent
    expect(await results()).toMatchObject({ upon: 'Failed', unproven: 'Failed', fifth: 'Skipped' })
  })

  test('that are damaged are named at a drill, do not make it a failure of the drill, and do not hold up those before them', async () => {
    for (const name of ['four', 'five', 'six', 'seven']) await increment(name)
    const six = json((await of('show', 'six')).out)
    const file = join(other.backups, six.path, 'changes.kvc.zst')
    const bytes = readFileSync(file)
    bytes[bytes.length >> 1]! ^= 1
    writeFileSync(file, bytes)
    const ran = await kvidx(['job', 'drill', '--config', other.configFile, '--server', other.url])
    const [judged] = json(ran.out).increments
    expect(judged).toMatchObject({ name: 'seven', result: 'Failed', error: expect.stringContaining('six') })
    expect(await results()).toMatchObject({ four: 'Verified', five: 'Verified', six: 'Failed', seven: 'Failed' })
  })
})

describe('kvidx backup', () => {
  test('lists, shows, prunes for trial, and drills with what the database recorded', async () => {
    const list = json((await backup('list')).out)
    expect(list.backups.map(({ type }: { type: string }) => type)).toEqual(['Full', 'Incremental', 'Full'])
    const shown = json((await backup('show', 'orders-daily-20261123t0200z')).out)
    expect(shown.manifest.schedule).toBe('daily')
    const plan = json((await backup('prune', '--dry-run')).out)
    expect(
      plan.backups.every(({ keep, reasons }: { keep: boolean; reasons: string[] }) => keep && reasons.length > 0),
    ).toBe(true)
    const drill = await backup('drill')
    expect([drill.code, drill.notes]).toEqual([0, ''])
    expect(json(drill.out)).toMatchObject({ phase: 'Completed', comparedWithSource: true })
    expect((await running.status()).backup.drill.rtoMs).toBeGreaterThan(0)
    const metrics = await (await fetch(`${running.sidecar.opsAddress}/metrics`)).text()
    expect(metrics).toMatch(/kvidx_backup_last_success_timestamp_seconds \d/)
    expect(metrics).toContain('\nkvidx_backup_drill_failed 0\n')
    expect(metrics).toMatch(/kvidx_backup_drill_rto_seconds \d+\.?\d*/)
  })

  test('asks a store that --store names and nobody else, whatever the variables say', async () => {
    let calls = 0
    const elsewhere = createServer((_request, response) => {
      calls++
      response.writeHead(500).end()
    })
    await new Promise<void>(resolve => elsewhere.listen(0, '127.0.0.1', resolve))
    vi.stubEnv('KVIDX_SERVER', `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`)
    vi.stubEnv('KVIDX_STORE', running.store)
    try {
      const name = 'orders-daily-20261123t0200z'
      const verbs = [['list'], ['show', name], ['verify', name], ['prune', '--dry-run'], ['drill']]
      for (const verb of verbs) {
        const where = ['--store', running.store, '--output', 'json']
        const ran = await kvidx(['backup', ...verb, ...where])
        expect([verb, ran.code, ran.notes]).toEqual([verb, 0, ''])
      }
      expect(calls).toBe(0)
      // where only the variables are set, both of them hold
      expect((await kvidx(['backup', 'list'])).code).not.toBe(0)
      expect(calls).toBeGreaterThan(0)
    } finally {
      vi.unstubAllEnvs()
      await new Promise(resolve => elsewhere.close(resolve))
    }
  })

  test.each([
    ['prune', '--lineage', 'some-lineage'],
    ['prune', '--daily', '1'],
    ['prune', '--store', 'file:///nowhere'],
    ['drill', '--at', '2026-11-23T14:02:59Z'],
    ['verify', '--store', 'file:///nowhere'],
    ['list', '--store', 'file:///nowhere'],
  ])('%s %s is refused with -k instead of left out', async (verb, option, value) => {
    const ran = await kvidx(['backup', verb, option, value, '-k', 'orders', '--kubeconfig', '/nowhere'])
    expect(ran.code).toBe(2)
    expect(ran.notes).toContain(`${option}: not with --kubernetes; `)
  })

  test('restores offline into every engine, with the source position, and refuses a directory that has data', async () => {
    const before = running.sidecar.database.state
    for (const engine of ['SQLite', 'LMDB', 'RocksDB']) {
      const directory = join(running.root, `restored-${engine}`)
      const args = ['backup', 'restore', '--store', running.store, '--data-dir', directory, '--engine', engine]
      const ran = await kvidx([...args, '--at', 'orders-daily-20261123t0200z', '--output', 'json'])
      expect([engine, ran.code, ran.notes]).toEqual([engine, 0, ''])
      const restored = json(ran.out)
      expect(restored).toMatchObject({ count: '50', complete: true })
      expect(restored.lineage).not.toBe(running.sidecar.database.lineage)
      expect(JSON.parse(readFileSync(join(directory, 'identity.json'), 'utf8')).origin.reached).toBe(restored.reached)
      expect(existsSync(join(directory, 'db', 'identity.json'))).toBe(false)
      expect(readdirSync(join(directory, 'staging'))).toEqual([])
      const again = await kvidx([...args, '--output', 'json'])
      expect(again.notes).toMatch(/already/)
    }
    expect(running.sidecar.database.state.digest).toBe(before.digest)
  })
})

test('a drill that failed is still one after a restart, and until one succeeds; suspended schedules are told', async () => {
  const first = await startRunning({ backup: { suspend: true } })
  const metrics = async ({ sidecar }: Running) => (await fetch(`${sidecar.opsAddress}/metrics`)).text()
  const drill = ({ configFile, url }: Running) => kvidx(['job', 'drill', '--config', configFile, '--server', url])
  await first.put(1, 'one')
  // nothing to restore is a drill that failed
  expect((await drill(first)).code).not.toBe(0)
  await first.stop()
  const second = await startRunning({ root: first.root })
  try {
    const { drill: last } = (await second.status()).backup
    expect(last).toMatchObject({ phase: 'Failed', code: 'backup_not_found' })
    expect(await metrics(second)).toContain('\nkvidx_backup_drill_failed 1\n')
    expect(await metrics(second)).toContain('\nkvidx_backup_suspended 0\n')
    expect((await kvidx(['backup', 'create', '--server', second.url])).code).toBe(0)
    expect((await drill(second)).code).toBe(0)
  } finally {
    await second.stop()
  }
  const third = await startRunning({ root: first.root, backup: { suspend: true } })
  try {
    expect(await metrics(third)).toContain('\nkvidx_backup_drill_failed 0\n')
    expect(await metrics(third)).toMatch(/\nkvidx_backup_drill_rto_seconds \d/)
    expect(await metrics(third)).toContain('\nkvidx_backup_suspended 1\n')
  } finally {
    await third.stop()
    remove(third)
  }
})

test('prune of a named older lineage lets its newest verified Full go, that of the database stays', async () => {
  const first = await startRunning()
  const full = async ({ configFile, url }: Running) => {
    const ran = await kvidx(['job', 'backup', '--config', configFile, '--server', url, '--schedule', 'daily'])
    expect(json(ran.out)).toMatchObject({ type: 'Full', verification: 'Verified' })
  }
  await first.put(1, 'old')
  await full(first)
  const old = first.sidecar.database.lineage
  await first.stop()
  rmSync(first.data, { recursive: true })
  const second = await startRunning({ root: first.root })
  try {
    await second.put(1, 'new')
    await full(second)
    const { lineage } = second.sidecar.database
    const zeros = ['--daily', '0', '--weekly', '0', '--monthly', '0', '--last', '0', '--window', '0s']
    const prune = async (of: string, ...more: string[]) => {
      const args = ['backup', 'prune', '--lineage', of, ...zeros, '--output', 'json', ...more]
      return json((await kvidx(args)).out).backups.map(({ keep }: { keep: boolean }) => keep)
    }
    const beside = ['--server', second.url]
    const alone = ['--store', second.store, '--database', 'orders']
    for (const where of [beside, alone]) {
      expect(await prune(lineage, ...where)).toEqual([true])
      expect(await prune(old, ...where, '--dry-run')).toEqual([false])
    }
    expect(await prune(old, ...beside)).toEqual([false])
    const list = (of: string) => kvidx(['backup', 'list', '--lineage', of, ...beside, '--output', 'json'])
    expect(json((await list(old)).out).backups).toEqual([])
    expect(json((await list(lineage)).out).backups).toHaveLength(1)
  } finally {
    await second.stop()
    remove(second)
  }
})

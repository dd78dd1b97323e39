import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { backupFull, type SourceRecord } from '../../../sidecar/backup/backup.ts'
import { type Backup, readLineage } from '../../../sidecar/backup/catalog.ts'
import { planPrune, prune } from '../../../sidecar/backup/prune.ts'
import { snapshotOf } from '../../../sidecar/backup/snapshot-source.ts'
import { DirectoryStore } from '../../../sidecar/backup/store/directory.ts'
import { S3Store } from '../../../sidecar/backup/store/s3.ts'
import type { BackupStore } from '../../../sidecar/backup/store/store.ts'
import { verifyBackup } from '../../../sidecar/backup/verify.ts'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import type { RunningS3 } from '../../servers/versitygw.ts'
import { canMount } from '../../support/small-volume.ts'
import { kvidx, type Ran } from '../cli/harness.ts'
import { type Fault, type FaultProxy, startFaultProxy } from './fault-proxy.ts'
import { type Running, remove, startRunning } from './running.ts'
import { s3Binary, s3StoreIn, startS3 } from './s3-server.ts'
import { Source } from './source.ts'

/** Everything goes but the newest, and what could be a parent yesterday. */
const POLICY = { daily: 0, weekly: 0, monthly: 0, last: 1, windowMs: 0, timeZone: 'Etc/UTC' }
const DAY = 24 * 3_600_000
const json = (ran: Ran) => JSON.parse(ran.out.trim().split('\n').at(-1) ?? '')

if (!canMount) {
  const message = 'not root, so a store that becomes read-only is NOT tested here'
  if (process.env.CI) throw new Error(message)
  console.warn(`\n*** ${message} ***\n`)
}

type History = Awaited<ReturnType<typeof open>>

/** A database and Fulls of its schedule. */
async function open(store: BackupStore) {
  const source = await Source.open('SQLite', undefined, store)
  const { context, home, root } = source
  const scratch = source.fresh('scratch')
  mkdirSync(scratch)
  const catalog = () => readLineage(store, home)
  const verify = async (name: string) => {
    const known = await catalog()
    const backup = known.backups.find(its => its.name === name) as Backup
    const recorded = records.get(name)
    return verifyBackup(context, known, backup, { recorded, engine: 'SQLite', scratch })
  }
  const records = new Map<string, SourceRecord>()
  return {
    store,
    root,
    catalog,
    verify,
    plan: async () => planPrune(await catalog(), POLICY, Date.now()),
    /** Made and verified so many days ago. */
    make: async (name: string, days: number) => {
      await source.write([{ op: 'put', key: BigInt(days), term: 0n, cmd: 0n, data: Buffer.alloc(100_000, name) }])
      const snapshot = await snapshotOf(source.database, source.signal)
      const then = Object.assign(Object.create(systemClock) as Clock, { now: () => Date.now() - days * DAY })
      const made = await backupFull(
        { ...context, clock: then },
        { home, name, verify: true, schedule: 'daily' },
        snapshot,
      )
      snapshot.release()
      records.set(name, made.recorded)
      expect(await verify(name)).toMatchObject({ result: 'Verified' })
    },
    close: () => source.close(),
    [Symbol.asyncDispose]: () => source.close(),
  }
}

/** A real store of each kind, whose file system can be made read-only under whoever uses it. */
const KINDS = [
  ['a directory', DirectoryStore.prototype],
  ...(s3Binary ? ([['an S3 server', S3Store.prototype]] as const) : []),
] as const

describe.skipIf(!canMount).each(KINDS)('the store is %s and', (_kind, prototype) => {
  const isS3 = prototype === S3Store.prototype
  let root: string
  let files: string
  let server: RunningS3 | undefined
  let running: Running
  let store: string
  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'kvidx-adversary-'))
    server = isS3 ? await startS3() : undefined
    files = server ? join(server.directory, 'backups') : join(root, 'backups')
    mkdirSync(files)
    // a mount of its own, which alone becomes read-only
    execFileSync('mount', ['--bind', files, files])
    store = server ? `s3://backups?endpoint=${server.endpoint}` : `file://${files}`
    vi.stubEnv('AWS_ACCESS_KEY_ID', server?.accessKeyId ?? '')
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server?.secretAccessKey ?? '')
    running = await startRunning()
    await running.put(1, 'one')
  })
  afterEach(() => {
    vi.restoreAllMocks()
    readOnly(false)
  })
  afterAll(async () => {
    await running.stop()
    remove(running)
    execFileSync('umount', [files])
    await server?.stop()
    vi.unstubAllEnvs()
    rmSync(root, { recursive: true })
  })
  const readOnly = (on: boolean) => execFileSync('mount', ['-o', `remount,bind,${on ? 'ro' : 'rw'}`, files])
  const backup = (...args: string[]) =>
    kvidx(['backup', ...args, '--store', store, '--server', running.url, '--output', 'json'])
  const list = async () => json(await backup('list'))
  const names = async () => (await list()).backups.map(({ name }: { name: string }) => name)
  test('becomes read-only in the middle of a backup', async () => {
    expect(json(await backup('create', 'first'))).toMatchObject({ verification: 'Verified' })
    const { put } = prototype
    vi.spyOn(prototype, 'put').mockImplementation(async function (this: DirectoryStore & S3Store, key, ...rest) {
      await put.call(this, key, ...rest)
      if (key.endsWith('records.kvidx.zst')) readOnly(true)
    })
    const ran = await backup('create', 'second')
    expect(ran.code).not.toBe(0)
    const code = isS3 ? 'store_unreachable' : 'store_denied'
    expect(json(ran)).toMatchObject({ name: 'second', phase: 'Failed', code, verification: 'Pending' })
    expect(json(ran).error).toContain('second')
    const { backup: told } = await running.status()
    expect(told).toMatchObject({ lastSuccessful: { name: 'first' }, lastFailed: { name: 'second' } })
    // it is readable all the same, and has what it had
    expect(await names()).toEqual(['first'])
    vi.restoreAllMocks()
    readOnly(false)
    expect(json(await backup('verify', 'first'))).toMatchObject({ result: 'Verified' })
    expect((await list()).unfinished).toHaveLength(1)
    expect(json(await backup('create', 'second'))).toMatchObject({ phase: 'Completed', verification: 'Verified' })
    expect(await names()).toEqual(['first', 'second'])
  })

  test('becomes read-only in the middle of a prune', async () => {
    await using history = await open(
      isS3 && server ? s3StoreIn(server, { bucket: 'backups', attempts: 2 }) : new DirectoryStore(files),
    )
    await history.make('old', 10)
    await history.make('middle', 7)
    await history.make('parent', 5)
    await history.make('fresh', 0)
    const { delete: remove } = prototype
    vi.spyOn(prototype, 'delete').mockImplementation(async function (this: DirectoryStore & S3Store, ...args) {
      await remove.apply(this, args)
      readOnly(true)
    })
    const plan = await history.plan()
    expect(plan.backups.filter(({ keep }) => !keep).map(({ id }) => id)).toEqual([
      expect.stringMatching(/-old$/),
      expect.stringMatching(/-middle$/),
    ])
    const pruned = prune(history.store, plan)
    if (isS3) await expect(pruned).rejects.toMatchObject({ code: 'store_unreachable' })
    else expect(await pruned).toMatchObject({ backups: 1, denied: 4 })
    // of the one whose manifest went there is no backup; the other ones are whole
    const { backups, unfinished, damaged } = await history.catalog()
    expect([backups.map(({ name }) => name), damaged]).toEqual([['old', 'parent', 'fresh'], []])
    expect(unfinished.map(({ path }) => path)).toEqual([expect.stringMatching(/-middle\/$/)])
    vi.restoreAllMocks()
    readOnly(false)
    for (const name of ['old', 'parent', 'fresh'])
      expect(await history.verify(name)).toMatchObject({ result: 'Verified' })
    expect(await prune(history.store, await history.plan())).toMatchObject({ backups: 1, denied: 0 })
    expect((await history.catalog()).backups.map(({ name }) => name)).toEqual(['parent', 'fresh'])
  })

  test.each(['before', 'after'] as const)(
    'is pruned %s a verification opens the records of the same backup',
    async when => {
      await using history = await open(
        isS3 && server ? s3StoreIn(server, { bucket: 'backups' }) : new DirectoryStore(files),
      )
      await history.make('old', 10)
      await history.make('parent', 5)
      await history.make('fresh', 0)
      const { get } = prototype
      let pruned = 0
      vi.spyOn(prototype, 'get').mockImplementation(async function (this: DirectoryStore & S3Store, key, ...rest) {
        const go = async () => {
          if (!/-old\/records/.test(key) || pruned > 0) return
          pruned = (await prune(history.store, await history.plan())).backups
        }
        if (when === 'before') await go()
        const opened = await get.call(this, key, ...rest)
        if (when === 'after') await go()
        return opened
      })
      await expect(history.verify('old')).rejects.toMatchObject({
        code: 'backup_not_found',
        message: expect.stringContaining('was removed'),
      })
      expect(pruned).toBe(1)
      // neither a result of what is gone, nor a directory that has nothing else
      const { backups, unfinished, damaged } = await history.catalog()
      expect([backups.map(({ name }) => name), unfinished, damaged]).toEqual([['parent', 'fresh'], [], []])
      expect(await history.verify('fresh')).toMatchObject({ result: 'Verified' })
    },
  )
})

describe.skipIf(!s3Binary)('an S3 endpoint that lies about lengths', () => {
  const LIES = [
    ['a body cut short, its length right', { kind: 'lie', without: 7, announced: -7 }],
    ['a length that is too small', { kind: 'lie', without: 0, announced: -7 }],
    ['a length that is too large', { kind: 'lie', without: 0, announced: 7 }],
  ] as const
  let server: RunningS3
  let proxy: FaultProxy
  let history: History
  beforeAll(async () => {
    server = await startS3()
    proxy = await startFaultProxy(server.endpoint)
    history = await open(s3StoreIn(server, { endpoint: proxy.endpoint, attempts: 2 }))
    await history.make('old', 10)
    await history.make('fresh', 0)
  })
  afterEach(() => {
    proxy.decide = () => undefined
  })
  afterAll(async () => {
    await history.close()
    await proxy.stop()
    await server.stop()
  })
  const lying = (fault: Fault, about: RegExp) => {
    proxy.decide = ({ method, url = '' }) => (method === 'GET' && about.test(url) ? fault : undefined)
  }

  describe.each(LIES)('%s', (_what, fault) => {
    test('of records: the verification says so, and holds again when the endpoint is honest', async () => {
      lying(fault, /-fresh\/records/)
      const found = await history.verify('fresh').catch((error: unknown) => error)
      expect(found).toSatisfy(
        (its: { result?: string; error?: { code: string }; code?: string }) =>
          (its.result === 'Failed' && its.error?.code === 'backup_corrupt') || its.code === 'store_unreachable',
      )
      proxy.decide = () => undefined
      expect(await history.verify('fresh')).toMatchObject({ result: 'Verified' })
    })

    test('of a manifest: the backup is damaged, which removes nothing', async () => {
      lying(fault, /-old\/manifest/)
      const catalog = await history.catalog().catch((error: unknown) => error as { code: string })
      if ('code' in catalog) expect(catalog.code).toBe('store_unreachable')
      else {
        expect(catalog.damaged.map(({ key }) => key)).toEqual([expect.stringMatching(/-old\/manifest.json$/)])
        expect(await prune(history.store, planPrune(catalog, POLICY, Date.now()))).toMatchObject({
          backups: 0,
          unfinished: 0,
        })
      }
      proxy.decide = () => undefined
      expect((await history.catalog()).backups.map(({ name }) => name)).toEqual(['old', 'fresh'])
    })

    test('of a listing: nothing is known of the store, not that it is empty', async () => {
      lying(fault, /list-type=2/)
      await expect(history.catalog()).rejects.toMatchObject({ code: 'store_unreachable' })
    })
  })
})

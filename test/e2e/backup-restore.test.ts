import { expect } from 'vitest'
import { backup, ended, made, restore, type Stats, says, statsOf } from './support/backup.ts'
import { applyDatabase, ready } from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { Direct } from './support/forward.ts'
import { apply, condition, find, get, kubectl, type Manifest, patch } from './support/kubectl.ts'
import { Ledger } from './support/ledger.ts'
import { testNamespace } from './support/namespace.ts'
import { exec } from './support/pod.ts'
import { group } from './support/steps.ts'

const namespace = testNamespace('restore')
const SEED = Number(process.env.KVIDX_TEST_SEED ?? Date.now() % 1_000_000)

const volume = {
  destination: { volume: { size: '512Mi' } },
  schedules: [{ name: 'yearly', schedule: '0 0 1 1 *' }],
  continuous: { enabled: true, interval: '300ms' },
  scratch: { size: '256Mi' },
}

async function withDatabase<T>(name: string, work: (database: Direct) => Promise<T>): Promise<T> {
  const database = new Direct(namespace, name)
  try {
    return await work(database)
  } finally {
    await database.stop()
  }
}

const put = async (database: Direct, key: number, value: string) => {
  const answer = await database.request(`/v1/records/${key}`, { method: 'PUT', body: value })
  expect(answer.ok, await answer.text()).toBe(true)
}

const restored = async (name: string, spec: object): Promise<Manifest> => {
  await apply([restore(namespace, name, { database: 'orders', ...spec })])
  return ended(namespace, 'kvres', name)
}

/** In the database's own pod, as `kubectl exec` gives it to a person. */
const kvidx = (...args: readonly string[]) =>
  exec(namespace, 'orders-0', 'kvidx', [
    'kvidx',
    ...args,
    ...['--server', 'http://127.0.0.1:7400', '--token-file', '/etc/kvidx/auth/admin', '--output', 'json'],
  ])

let before: Stats
let damaged: Stats
let moment = ''

group('a restore in place', [
  [
    'has a Full, a moment, and a wrong delete behind it',
    async () => {
      await applyDatabase(namespace, 'orders', { backup: volume })
      await ready(namespace, 'orders', 240_000)
      await withDatabase('orders', async database => {
        for (let key = 1; key <= 30; key++) await put(database, key, `value ${key}`)
        await made(namespace, 'full', { database: 'orders' })
        await put(database, 31, 'behind the Full')
        before = await statsOf(database)
        // commits have whole milliseconds
        await new Promise(resolve => setTimeout(resolve, 50))
        moment = new Date().toISOString()
        await new Promise(resolve => setTimeout(resolve, 50))
        await database.request('/v1/records?start=1&end=10', { method: 'DELETE' })
        await put(database, 11, 'changed')
        await put(database, 99, 'added')
        damaged = await statsOf(database)
      })
    },
  ],
  [
    'for trial counts what would change, and changes nothing',
    async () => {
      const { status } = await restored('trial', { from: { time: moment }, atEpoch: 1, dryRun: true })
      expect(status).toMatchObject({ phase: 'Completed', added: 10, changed: 1, removed: 1, digest: before.digest })
      await withDatabase('orders', async database => {
        const { digest, position } = damaged
        expect(await statsOf(database)).toMatchObject({ digest, position })
      })
    },
  ],
  [
    'brings the moment back in a new epoch',
    async () => {
      const { status } = await restored('back', { from: { time: moment }, atEpoch: 1 })
      expect(status).toMatchObject({ phase: 'Completed', epoch: 2, digest: before.digest, target: before.position })
      await withDatabase('orders', async database => {
        const now = await eventually('it serves', () => statsOf(database))
        expect(now).toMatchObject({ digest: before.digest, count: before.count, lineage: before.lineage })
        expect(now.position).toBe(before.position.replace(/^1\./, '2.'))
      })
      const columns = await kubectl(['-n', namespace, 'get', 'kvres', 'back', '--no-headers'])
      expect(columns.split(/\s+/).slice(0, 5)).toEqual(['back', 'orders', 'Completed', before.position, before.count])
    },
  ],
  [
    'is not done again: applied anew it is Completed, under another name Superseded',
    async () => {
      await apply([restore(namespace, 'back', { database: 'orders', from: { time: moment }, atEpoch: 1 })])
      const late = await restored('late', { from: { time: moment }, atEpoch: 1 })
      expect(late.status).toMatchObject({ phase: 'Failed', code: 'superseded' })
      expect(condition(late, 'Ready')).toMatchObject({ status: 'False', reason: 'Superseded' })
      expect((await get(namespace, 'kvres', 'back')).status).toMatchObject({ phase: 'Completed', epoch: 2 })
      await withDatabase('orders', async database => expect((await statsOf(database)).position).toMatch(/^2\./))
    },
  ],
  [
    'is undone: what was there before lay in quarantine',
    async () => {
      await kvidx('restore', '--undo')
      await withDatabase('orders', async database => {
        const now = await eventually('it serves', () => statsOf(database))
        expect(now).toMatchObject({ digest: damaged.digest, count: damaged.count, lineage: before.lineage })
        expect(now.position).toMatch(/^3\./)
      })
      expect(await kvidx('quarantine', 'list')).toContain('restored')
    },
  ],
  [
    'of a backup by name, of a position and of what is not there',
    async () => {
      const full = await restored('by-name', { from: { backup: 'full' }, atEpoch: 3 })
      expect(full.status).toMatchObject({ phase: 'Completed', records: 30, epoch: 4 })
      // on another branch: a position reaches it, whatever the current epoch
      const position = await restored('by-position', { from: { position: before.position }, atEpoch: 4 })
      expect(position.status).toMatchObject({ phase: 'Completed', digest: before.digest, epoch: 5 })
      const missing = await restored('missing', { from: { backup: 'never-made' }, atEpoch: 5 })
      expect(missing.status).toMatchObject({ phase: 'Failed', code: 'backup_not_found' })
      await ready(namespace, 'orders')
    },
  ],
  [
    'helps when a volume is lost under a living database: it says so, does not begin empty, and comes back by what it says',
    async () => {
      const last = await withDatabase('orders', async database => {
        await put(database, 1000, 'the last word')
        return statsOf(database)
      })
      await eventually('it is in the store', async () => {
        const text = await kubectl(['get', '--raw', `/api/v1/namespaces/${namespace}/pods/orders-0:8080/proxy/status`])
        expect(JSON.parse(text).backup.continuous).toMatchObject({ shipped: last.position, backlogChanges: 0 })
      })
      await kubectl(['-n', namespace, 'delete', 'pvc', 'data-orders-0', '--wait=false'])
      await kubectl(['-n', namespace, 'delete', 'pod', 'orders-0'], { timeout: 130_000 })
      const lost = await says(namespace, 'orders', 'Ready', { status: 'False', reason: 'DataLost' }, 180_000)
      const { lineage } = lost.status
      expect(lineage).toBe(last.lineage)
      expect(condition(lost, 'Ready')?.message).toContain(lineage)
      const spec = {
        recovery: { allowEmpty: lineage },
        bootstrap: { restore: { source: { database: 'orders', lineage } } },
      }
      await patch(namespace, 'kvdb', 'orders', { spec })
      await ready(namespace, 'orders', 240_000)
      await withDatabase('orders', async database => {
        const now = await statsOf(database)
        expect(now).toMatchObject({ digest: last.digest, count: last.count })
        expect(now.lineage).not.toBe(lineage)
      })
    },
  ],
])

const ledger = new Ledger(SEED)

group('a VolumeSnapshot', [
  [
    'under write load is exact: what was acknowledged at its position',
    async () => {
      await applyDatabase(namespace, 'disk', {})
      await ready(namespace, 'disk', 240_000)
      await withDatabase('disk', async database => {
        ledger.start(database, 2, 5)
        await new Promise(resolve => setTimeout(resolve, 2000))
        const spec = { database: 'disk', type: 'VolumeSnapshot', deletionPolicy: 'Delete', verify: true }
        const status = await made(namespace, 'copy', spec)
        await ledger.stop()
        expect(ledger.unknown).toBe(0)
        expect(status).toMatchObject({ type: 'VolumeSnapshot', consistency: 'Exact' })
        const seq = Number(status.position.split('.')[1])
        expect(ledger.entries.length).toBeGreaterThan(seq)
        expect({ count: String(status.records), digest: status.digest }).toEqual(ledger.at(seq))
        const { annotations, ownerReferences } = (await get(namespace, 'volumesnapshot', 'copy')).metadata
        expect(annotations).toMatchObject({ 'kvidx.io/digest': status.digest, 'kvidx.io/position': status.position })
        expect(ownerReferences).toBeUndefined()
      })
    },
  ],
  [
    'is verified by a pod that opens a copy of it',
    async () => {
      const verified = await eventually(
        'it is verified',
        async () => {
          const { status } = await get(namespace, 'kvbak', 'copy')
          expect(status, JSON.stringify(status)).toMatchObject({ phase: 'Completed', verification: 'Verified' })
          return status
        },
        { timeout: 180_000 },
      )
      expect(verified).toMatchObject({ verifiedAt: expect.any(String), consistency: 'Exact' })
    },
  ],
  [
    'becomes a new database with a life of its own',
    async () => {
      const { status } = await get(namespace, 'kvbak', 'copy')
      await applyDatabase(namespace, 'clone', { bootstrap: { restore: { backup: 'copy' } } })
      await ready(namespace, 'clone', 240_000)
      await withDatabase('clone', async database => {
        const { digest, count, lineage } = await statsOf(database)
        expect({ digest, count }).toEqual({ digest: status.digest, count: String(status.records) })
        expect(lineage).not.toBe(status.lineage)
        await put(database, 1, 'of the copy alone')
      })
      const claim = await get(namespace, 'pvc', 'data-clone-0')
      expect(claim.spec.dataSource).toMatchObject({ kind: 'VolumeSnapshot', name: 'copy' })
      expect(claim.metadata.ownerReferences).toBeUndefined()
    },
  ],
  [
    'takes the place of the volume that was lost',
    async () => {
      const { status } = await get(namespace, 'kvbak', 'copy')
      await kubectl(['-n', namespace, 'delete', 'kvdb', 'disk', '--timeout=120s'], { timeout: 130_000 })
      await eventually('its pod is gone', async () => (await find(namespace, 'pod', 'disk-0')) === null, {
        timeout: 180_000,
      })
      await kubectl(['-n', namespace, 'delete', 'pvc', 'data-disk-0', '--timeout=120s'], { timeout: 130_000 })
      await applyDatabase(namespace, 'disk', { bootstrap: { restore: { backup: 'copy' } } })
      await ready(namespace, 'disk', 240_000)
      await withDatabase('disk', async database =>
        expect(await statsOf(database)).toMatchObject({ digest: status.digest, count: String(status.records) }),
      )
    },
  ],
  [
    'is refused for a restore in place, and goes with its record when that says so',
    async () => {
      await apply([restore(namespace, 'from-disk', { database: 'clone', from: { backup: 'copy' }, atEpoch: 1 })])
      const { status } = await ended(namespace, 'kvres', 'from-disk')
      expect(status).toMatchObject({ phase: 'Failed', error: expect.stringContaining('VolumeSnapshot') })
      await kubectl(['-n', namespace, 'delete', 'kvbak', 'copy', '--timeout=120s'], { timeout: 130_000 })
      await eventually('it is gone', async () => (await find(namespace, 'volumesnapshot', 'copy')) === null)
      await apply([backup(namespace, 'of-nobody', { database: 'nobody', type: 'VolumeSnapshot' })])
      const waits = await eventually('it says what it waits for', async () => {
        const object = await find(namespace, 'kvbak', 'of-nobody')
        return object?.status?.phase === 'Pending' ? object : null
      })
      expect(condition(waits, 'Ready')?.message).toContain('there is no KvidxDatabase nobody')
    },
  ],
])

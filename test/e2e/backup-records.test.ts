import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { aged } from './support/aged.ts'
import { backup, ended, made, statsOf } from './support/backup.ts'
import { Bucket } from './support/bucket.ts'
import { succeed } from './support/command.ts'
import { applyDatabase, ready } from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { Direct } from './support/forward.ts'
import { apply, find, get, kubectl, list } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { group } from './support/steps.ts'

const namespace = testNamespace('records')
const bucket = new Bucket(namespace)

const toBucket = () => ({
  destination: { s3: bucket.place },
  schedules: [
    { name: 'yearly', schedule: '0 0 1 1 *' },
    { name: 'more', schedule: '0 0 2 1 *', type: 'Incremental' },
  ],
  retention: { daily: 0, weekly: 0, monthly: 0, last: 1, window: '0s' },
  scratch: { size: '256Mi' },
})

const kvidx = (...args: readonly string[]) =>
  succeed('bin/kvidx', [...args, '--namespace', namespace], { timeout: 180_000 })

const put = async (key: number) => {
  const database = new Direct(namespace, 'orders')
  try {
    expect((await database.request(`/v1/records/${key}`, { method: 'PUT', body: `value ${key}` })).ok).toBe(true)
    return await statsOf(database)
  } finally {
    await database.stop()
  }
}

/** The store's directory of the database's lineage, seen on the server. */
const shelf = (lineage: string) => join(bucket.server.directory, bucket.name, namespace, 'orders', lineage)
const stored = (lineage: string, kind: 'snapshots' | 'increments') => {
  const path = join(shelf(lineage), kind)
  return existsSync(path) ? readdirSync(path).filter(entry => existsSync(join(path, entry, 'manifest.json'))) : []
}

let lineage = ''

group('records of backups', [
  [
    'by hand, by kubectl: the columns tell of it',
    async () => {
      await applyDatabase(namespace, 'orders', { backup: toBucket() })
      await ready(namespace, 'orders', 240_000)
      ;({ lineage } = await put(1))
      const manifest = backup(namespace, 'by-kubectl', { database: 'orders', deletionPolicy: 'Delete' })
      await kubectl(['create', '-f', '-'], { input: JSON.stringify(manifest) })
      const { status } = await ended(namespace, 'kvbak', 'by-kubectl')
      expect(status).toMatchObject({ phase: 'Completed', verification: 'Verified', records: 1 })
      const [head = '', row = ''] = (await kubectl(['-n', namespace, 'get', 'kvbak', 'by-kubectl'])).split('\n')
      expect(head.split(/\s{2,}/).filter(Boolean)).toEqual([
        'NAME',
        'DATABASE',
        'TYPE',
        'PHASE',
        'RECORDS',
        'SIZE',
        'VERIFIED',
        'AGE',
      ])
      expect(row.split(/\s{2,}/).slice(0, 6)).toEqual(['by-kubectl', 'orders', 'Full', 'Completed', '1', status.size])
      // its spec is what was written: nothing of ours comes into it
      expect((await get(namespace, 'kvbak', 'by-kubectl')).spec).toEqual({
        database: 'orders',
        type: 'Full',
        deletionPolicy: 'Delete',
      })
    },
  ],
  [
    'by hand, by kvidx backup create: an increment of the one before',
    async () => {
      const { digest, position } = await put(2)
      const printed = await kvidx(
        'backup',
        'create',
        'orders',
        'by-kvidx',
        '--kubernetes',
        '--type',
        'Incremental',
        '--output',
        'json',
      )
      const { status } = await get(namespace, 'kvbak', 'by-kvidx')
      expect(JSON.parse(printed)).toMatchObject({ name: 'by-kvidx', phase: 'Completed', digest })
      expect(status).toMatchObject({ type: 'Incremental', parent: 'by-kubectl', digest, position, records: 2 })
    },
  ],
  [
    'one that an increment needs is not deleted, until that is gone',
    async () => {
      const remove = (name: string) => kubectl(['-n', namespace, 'delete', 'kvbak', name, '--wait=false'])
      await remove('by-kubectl')
      await eventually('it is refused', async () => {
        const object = await get(namespace, 'kvbak', 'by-kubectl')
        expect(JSON.stringify(object.status.conditions)).toContain('backup by-kvidx needs this one')
      })
      expect(stored(lineage, 'snapshots')).toHaveLength(1)
      // its policy is Retain: the record goes, what is stored stays, and still needs the other
      await remove('by-kvidx')
      await eventually('the record is gone', async () => (await find(namespace, 'kvbak', 'by-kvidx')) === null)
      expect(stored(lineage, 'increments')).toHaveLength(1)
    },
  ],
  [
    'are made again from the store by kvidx backup sync',
    async () => {
      const database = await get(namespace, 'kvdb', 'orders')
      expect(database.status.backup.catalog).toContain(bucket.name)
      const printed = await kvidx('backup', 'sync', 'orders', '--output', 'json')
      expect(JSON.parse(printed)).toMatchObject({ database: 'orders', phase: 'Completed' })
      const again = await get(namespace, 'kvbak', 'by-kvidx')
      expect(again.metadata.labels).toMatchObject({ 'kvidx.io/imported': 'true' })
      expect(again.status).toMatchObject({ phase: 'Completed', parent: 'by-kubectl', records: 2 })
      expect(await list(namespace, 'jobs', 'kvidx.io/backup=by-kvidx')).toHaveLength(0)
    },
  ],
  [
    'go with what the prune job removes; those by hand stay',
    async () => {
      const old = [40, 41, 42].map(days => aged(shelf(lineage), 'by-kubectl', 'yearly', days))
      await kvidx('backup', 'sync', 'orders')
      const imported = async () =>
        (await list(namespace, 'kvbak', 'kvidx.io/schedule=yearly')).map(({ metadata }) => metadata.name).sort()
      expect(await imported()).toEqual([...old].sort())
      await kubectl(['-n', namespace, 'create', 'job', '--from=cronjob/orders-prune', 'prune-now'])
      await kubectl(['-n', namespace, 'wait', '--for=condition=Complete', 'job/prune-now', '--timeout=120s'], {
        timeout: 130_000,
      })
      // a day ago the youngest of the three was what an increment would have continued
      await eventually('their records are gone', async () => expect(await imported()).toEqual(['by-kubectl-40d']))
      const left = stored(lineage, 'snapshots').map(entry => entry.replace(/^\w+-/, ''))
      expect(left.sort()).toEqual(['by-kubectl', 'by-kubectl-40d'])
      expect(stored(lineage, 'increments')).toHaveLength(1)
    },
  ],
  [
    'with policy Delete: the files go first, then the record',
    async () => {
      await made(namespace, 'short-lived', { database: 'orders', deletionPolicy: 'Delete', verify: false })
      expect(stored(lineage, 'snapshots').some(entry => entry.endsWith('-short-lived'))).toBe(true)
      await kubectl(['-n', namespace, 'delete', 'kvbak', 'short-lived', '--timeout=120s'], { timeout: 130_000 })
      expect(stored(lineage, 'snapshots').some(entry => entry.endsWith('-short-lived'))).toBe(false)
    },
  ],
  [
    'and all of them, with the database, come back from a store that a new cluster never saw',
    async () => {
      const records = async () => (await list(namespace, 'kvbak')).filter(({ spec }) => spec.database === 'orders')
      const before = await records()
      const known = before.map(({ metadata }) => metadata.name).sort()
      expect(known).toEqual(['by-kubectl', 'by-kubectl-40d', 'by-kvidx'])
      await kubectl(['-n', namespace, 'delete', 'kvdb', 'orders', '--timeout=120s'], { timeout: 130_000 })
      await eventually('its pod is gone', async () => (await find(namespace, 'pod', 'orders-0')) === null)
      await kubectl(['-n', namespace, 'delete', 'pvc', 'data-orders-0', '--timeout=120s'], { timeout: 130_000 })
      // as if the cluster had been lost: no objects, and nobody who carried out a finalizer
      for (const name of known) {
        const patch = ['--type=merge', '-p', '{"metadata":{"finalizers":null}}']
        await kubectl(['-n', namespace, 'patch', 'kvbak', name, ...patch])
        await kubectl(['-n', namespace, 'delete', 'kvbak', name, '--wait=false', '--ignore-not-found'])
      }
      await eventually('no record is left', async () => expect(await records()).toEqual([]))
      expect(stored(lineage, 'snapshots')).toHaveLength(2)
      const bootstrap = { restore: { source: { database: 'orders' } } }
      await applyDatabase(namespace, 'orders', { backup: toBucket(), bootstrap })
      await ready(namespace, 'orders', 240_000)
      await eventually(
        'the records are there again',
        async () => {
          const again = (await records()).filter(({ metadata }) => metadata.labels?.['kvidx.io/imported'] === 'true')
          expect(again.map(({ metadata }) => metadata.name).sort()).toEqual(known)
          for (const { metadata, status } of again) {
            const { digest, position, parent, verifiedAt, location } =
              before.find(record => record.metadata.name === metadata.name)?.status ?? {}
            expect(status).toMatchObject({ phase: 'Completed', digest, position, location })
            expect([status.parent, status.verifiedAt]).toEqual([parent, verifiedAt])
          }
        },
        { timeout: 120_000 },
      )
      const database = new Direct(namespace, 'orders')
      try {
        const { digest, count } = await statsOf(database)
        expect({ digest, count }).toEqual({
          digest: before.find(({ metadata }) => metadata.name === 'by-kvidx')?.status.digest,
          count: '2',
        })
      } finally {
        await database.stop()
      }
    },
  ],
])

group('a backup by hand of what is not there', [
  [
    'waits and says for what; it begins when the database is there',
    async () => {
      await apply([backup(namespace, 'early', { database: 'later', verify: false })])
      await eventually('it says what it waits for', async () => {
        const object = await get(namespace, 'kvbak', 'early')
        expect(object.status).toMatchObject({ phase: 'Pending' })
        expect(JSON.stringify(object.status.conditions)).toContain('there is no KvidxDatabase later')
      })
      await applyDatabase(namespace, 'later', { backup: toBucket() })
      const { status } = await ended(namespace, 'kvbak', 'early', 240_000)
      expect(status).toMatchObject({ phase: 'Completed', verification: 'Skipped', records: 0 })
      expect(status.verifiedAt).toBeUndefined()
    },
  ],
])

import { expect } from 'vitest'
import { backup, ended, made, says, statsOf } from './support/backup.ts'
import { Bucket } from './support/bucket.ts'
import { applyDatabase, ready } from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { fault } from './support/fault.ts'
import { Direct } from './support/forward.ts'
import { apply, kubectl, list, patch } from './support/kubectl.ts'
import { Ledger } from './support/ledger.ts'
import { testNamespace } from './support/namespace.ts'
import { group } from './support/steps.ts'

const namespace = testNamespace('outage')
const bucket = new Bucket(namespace)
const MINUTE = 60_000
const SEED = Number(process.env.KVIDX_TEST_SEED ?? Date.now() % 1_000_000)

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

/** Resolved when the controllers are back: the other group may start jobs then. */
const controllersBack = Promise.withResolvers<void>()

group('an outage of the cluster’s controllers', [
  [
    'that two runs fall into is made up for by one, for the last of the two',
    async () => {
      let away = false
      try {
        const backups = {
          destination: { volume: { size: '320Mi' } },
          schedules: [{ name: 'minute', schedule: '* * * * *' }],
          scratch: { size: '256Mi' },
          suspend: true,
        }
        await applyDatabase(namespace, 'orders', { backup: backups })
        await ready(namespace, 'orders', 240_000)
        // from the middle of a minute, so that exactly two begin while nobody is there; the controllers go first, because they would make up for what was due before
        await pause((MINUTE + 25_000 - (Date.now() % MINUTE)) % MINUTE)
        await fault('kill', 'kube-controller-manager')
        away = true
        const began = Date.now()
        await patch(namespace, 'kvdb', 'orders', { spec: { backup: { suspend: false } } })
        await eventually('the schedule is on', async () => {
          const [cronJob] = await list(namespace, 'cronjobs', 'kvidx.io/database=orders')
          expect(cronJob?.spec.suspend).toBe(false)
        })
        const missed = (Math.floor(began / MINUTE) + 2) * MINUTE
        expect(missed).toBeGreaterThan(began + MINUTE)
        await pause(began + 100_000 - Date.now())
        expect(await list(namespace, 'kvbak')).toEqual([])
        await fault('start', 'kube-controller-manager')
        away = false
        const [run] = await eventually(
          'the run was made up for',
          async () => {
            const records = await list(namespace, 'kvbak', 'kvidx.io/schedule=minute')
            return records.length > 0 ? records : null
          },
          { timeout: 90_000 },
        )
        controllersBack.resolve()
        await patch(namespace, 'kvdb', 'orders', { spec: { backup: { suspend: true } } })
        const slot = new Date(missed).toISOString().replaceAll(/[-:]/g, '').slice(0, 13).toLowerCase()
        expect(run?.metadata.name).toBe(`orders-minute-${slot}z`)
        const { status } = await ended(namespace, 'kvbak', `orders-minute-${slot}z`)
        expect(status).toMatchObject({ phase: 'Completed', verification: 'Verified' })
        // the first of the two is not made up for, and the second not twice
        const names = (await list(namespace, 'kvbak', 'kvidx.io/schedule=minute')).map(({ metadata }) => metadata.name)
        expect(names.filter(name => name <= `orders-minute-${slot}z`)).toEqual([`orders-minute-${slot}z`])
      } finally {
        if (away) await fault('start', 'kube-controller-manager')
        controllersBack.resolve()
      }
    },
  ],
])

const ledger = new Ledger(SEED)

group('an outage of the backup store', [
  [
    'is told with its reason, while the database goes on',
    async () => {
      const backups = {
        destination: { s3: bucket.place },
        schedules: [{ name: 'yearly', schedule: '0 0 1 1 *' }],
        continuous: { enabled: true, interval: '300ms' },
        scratch: { size: '256Mi' },
      }
      await applyDatabase(namespace, 'cloud', { backup: backups })
      await ready(namespace, 'cloud', 240_000)
      const database = new Direct(namespace, 'cloud')
      const back = await bucket.away()
      try {
        for (let count = 0; count < 50; count++) await ledger.write(database)
        const told = await says(namespace, 'cloud', 'BackupsHealthy', { status: 'False', reason: 'StoreUnreachable' })
        await ready(namespace, 'cloud', 1000)
        const message = JSON.stringify(told.status.conditions)
        expect(message).toContain(new URL(bucket.server.endpoint).host)
        for (let count = 0; count < 50; count++) await ledger.write(database)
        const last = Math.max(...ledger.entries.map(({ seq }) => seq))
        expect(await statsOf(database)).toMatchObject(ledger.at(last))
      } finally {
        await database.stop()
        await back()
      }
    },
  ],
  [
    'heals by itself when the store is back, and nothing is missing',
    async () => {
      await eventually(
        'the store is not called unreachable any more',
        async () => {
          const [cloud] = (await list(namespace, 'kvdb')).filter(({ metadata }) => metadata.name === 'cloud')
          const conditions = cloud?.status.conditions as { type: string; reason: string }[]
          expect(conditions.find(({ type }) => type === 'BackupsHealthy')?.reason).not.toBe('StoreUnreachable')
        },
        { timeout: 120_000 },
      )
      await eventually('everything is in the store', async () => {
        const text = await kubectl(['get', '--raw', `/api/v1/namespaces/${namespace}/pods/cloud-0:8080/proxy/status`])
        const { continuous } = (JSON.parse(text) as { backup: { continuous: object } }).backup
        expect(continuous).toMatchObject({ state: 'Shipping', backlogChanges: 0, gaps: [] })
      })
    },
  ],
  [
    'fails a backup by hand with the same reason, and the next one heals it',
    async () => {
      await controllersBack.promise
      const back = await bucket.away()
      try {
        await apply([backup(namespace, 'in-vain', { database: 'cloud' })])
        const { status } = await ended(namespace, 'kvbak', 'in-vain', 300_000)
        expect(status).toMatchObject({ phase: 'Failed', code: 'store_unreachable' })
        await says(namespace, 'cloud', 'BackupsHealthy', { status: 'False', reason: 'StoreUnreachable' })
      } finally {
        await back()
      }
      const status = await made(namespace, 'after', { database: 'cloud' })
      const seq = Number(status.position.split('.')[1])
      expect({ count: String(status.records), digest: status.digest }).toEqual(ledger.at(seq))
      await says(namespace, 'cloud', 'BackupsHealthy', { status: 'True', reason: 'BackupsCurrent' })
      await says(namespace, 'cloud', 'BackupVerified', { status: 'True', reason: 'Verified' })
    },
  ],
])

import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import { eventually } from './support/eventually.ts'
import { apply, condition, find, get, kubectl, list, type Manifest, patch } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { Client } from './support/pod.ts'

const namespace = testNamespace('backup')

const spec = (extra: object = {}) => ({
  engine: 'SQLite',
  storage: { size: '256Mi' },
  backup: {
    destination: { volume: { size: '512Mi' } },
    schedules: [{ name: 'minute', schedule: '* * * * *', verify: true }],
    continuous: { enabled: true, interval: '200ms' },
  },
  ...extra,
})
const database = (name: string, extra: object = {}) => ({
  apiVersion: 'kvidx.io/v1alpha1',
  kind: 'KvidxDatabase',
  metadata: { name, namespace },
  spec: spec(extra),
})

interface Stats {
  readonly digest: string
  readonly count: string
  readonly position: string
  readonly lineage: string
}

/** One acknowledged write, kept outside of the database. */
interface Entry {
  readonly key: number
  readonly value: string
  /** Before the request and after its answer, Unix ms by this machine's clock, which is the nodes'. */
  readonly asked: number
  readonly answered: number
}

describe('backups on a volume', () => {
  let client: Client
  const ledger: Entry[] = []

  const ready = (name: string, timeout = 240_000) =>
    eventually(
      `${name} is Ready`,
      async () => {
        const object = await find(namespace, 'kvdb', name)
        expect(condition(object, 'Ready'), JSON.stringify(object?.status?.conditions)).toMatchObject({ status: 'True' })
        return object as Manifest
      },
      { timeout },
    )
  const token = async (name: string) => {
    const secret = (await get(namespace, 'secret', `${name}-auth`)) as unknown as { data: Record<string, string> }
    return Buffer.from(secret.data.admin ?? '', 'base64')
      .toString()
      .trim()
  }
  const call = async (name: string, path: string, method = 'GET', body?: string) => {
    const headers = { authorization: `Bearer ${await token(name)}` }
    const url = `http://${name}.${namespace}.svc:7400${path}`
    return client.request(url, { method, headers, ...(body !== undefined && { body }) })
  }
  const stats = async (name: string) => JSON.parse((await call(name, '/v1/stats')).body) as Stats
  const write = async (key: number, value: string) => {
    const asked = Date.now()
    const { status, body } = await call('orders', `/v1/records/${key}`, 'PUT', value)
    expect(status, body).toBeLessThan(300)
    ledger.push({ key, value, asked, answered: Date.now() })
  }
  const phaseOf = async (name: string, timeout = 180_000) =>
    eventually(
      `${name} has ended`,
      async () => {
        const object = await find(namespace, 'kvbak', name)
        expect(object?.status?.phase, JSON.stringify(object?.status)).toMatch(/^(Completed|Failed)$/)
        return object as Manifest
      },
      { timeout },
    )

  beforeAll(async () => {
    client = await Client.start(namespace)
    await apply([database('orders')])
    await ready('orders')
  }, 300_000)

  test('a schedule of every minute makes verified backups under write load', { timeout: 300_000 }, async () => {
    for (let key = 1; key <= 40; key++) await write(key, `value ${key}`)
    const verified = await eventually(
      'a scheduled backup is verified',
      async () => {
        const backups = await list(namespace, 'kvbak', 'kvidx.io/schedule=minute')
        const failed = backups.filter(({ status }) => status?.phase === 'Failed')
        expect(failed.map(({ status }) => status?.error)).toEqual([])
        await write(1000 + ledger.length, 'meanwhile')
        return backups.find(({ status }) => status?.verification === 'Verified') ?? null
      },
      { timeout: 240_000, interval: 1000 },
    )
    expect(verified.metadata.name).toMatch(/^orders-minute-\d{8}t\d{4}z$/)
    expect(verified.status).toMatchObject({ phase: 'Completed', digest: expect.stringMatching(/^[0-9a-f]{32}$/) })
    const its = await eventually('the database tells of it', async () => {
      const object = await get(namespace, 'kvdb', 'orders')
      expect(condition(object, 'BackupVerified')).toMatchObject({ status: 'True', reason: 'Verified' })
      expect(condition(object, 'BackupsHealthy')).toMatchObject({ status: 'True' })
      return object
    })
    expect(its.status.backup.schedules[0]).toMatchObject({ name: 'minute', nextRun: expect.any(String) })
  })

  test('a backup by hand equals the database at its position', { timeout: 240_000 }, async () => {
    await patch(namespace, 'kvdb', 'orders', { spec: { backup: { suspend: true } } })
    await apply([
      {
        apiVersion: 'kvidx.io/v1alpha1',
        kind: 'KvidxBackup',
        metadata: { name: 'by-hand', namespace },
        spec: { database: 'orders' },
      },
    ])
    const { status } = await phaseOf('by-hand')
    const { digest, position, count } = await stats('orders')
    expect(status).toMatchObject({
      phase: 'Completed',
      verification: 'Verified',
      digest,
      position,
      records: Number(count),
    })
  })

  test('a VolumeSnapshot is exact, and goes with its record when that says so', { timeout: 240_000 }, async () => {
    const object = {
      apiVersion: 'kvidx.io/v1alpha1',
      kind: 'KvidxBackup',
      metadata: { name: 'disk', namespace },
      spec: { database: 'orders', type: 'VolumeSnapshot', deletionPolicy: 'Delete' },
    }
    const { digest, position } = await stats('orders')
    await apply([object])
    const { status } = await phaseOf('disk')
    expect(status).toMatchObject({ phase: 'Completed', consistency: 'Exact', digest, position })
    const snapshot = await get(namespace, 'volumesnapshot', 'disk')
    expect(snapshot.metadata.annotations).toMatchObject({ 'kvidx.io/digest': digest, 'kvidx.io/position': position })
    await kubectl(['-n', namespace, 'delete', 'kvbak', 'disk', '--timeout=120s'], { timeout: 130_000 })
    await eventually('its snapshot is gone', async () => (await find(namespace, 'volumesnapshot', 'disk')) === null)
  })

  test('a restore in place brings a moment back, and only once', { timeout: 300_000 }, async () => {
    await sleep(1500)
    const before = await stats('orders')
    const moment = new Date().toISOString()
    await sleep(1500)
    await call('orders', '/v1/records?start=1&end=20', 'DELETE')
    expect((await stats('orders')).digest).not.toBe(before.digest)
    const restore = (name: string) => ({
      apiVersion: 'kvidx.io/v1alpha1',
      kind: 'KvidxRestore',
      metadata: { name, namespace },
      spec: { database: 'orders', from: { time: moment }, atEpoch: Number(before.position.split('.')[0]) },
    })
    const ended = (name: string) =>
      eventually(
        `${name} has ended`,
        async () => {
          const object = await find(namespace, 'kvres', name)
          expect(object?.status?.phase, JSON.stringify(object?.status)).toMatch(/^(Completed|Failed)$/)
          return object as Manifest
        },
        { timeout: 180_000 },
      )
    await apply([restore('wrong-delete')])
    expect((await ended('wrong-delete')).status).toMatchObject({ phase: 'Completed', digest: before.digest })
    expect(await stats('orders')).toMatchObject({ digest: before.digest, count: before.count })
    await apply([restore('applied-again')])
    const again = await ended('applied-again')
    expect(condition(again, 'Ready')).toMatchObject({ status: 'False', reason: 'Superseded' })
  })

  test('a database that is lost with its volume comes back from the backup', { timeout: 420_000 }, async () => {
    // after the restore a new Full is due
    await apply([
      {
        apiVersion: 'kvidx.io/v1alpha1',
        kind: 'KvidxBackup',
        metadata: { name: 'before-loss', namespace },
        spec: { database: 'orders' },
      },
    ])
    const { status } = await phaseOf('before-loss')
    expect(status).toMatchObject({ phase: 'Completed' })
    const { lineage } = await stats('orders')
    await kubectl(['-n', namespace, 'delete', 'kvdb', 'orders', '--timeout=120s'], { timeout: 130_000 })
    await eventually('its pod is gone', async () => (await find(namespace, 'pod', 'orders-0')) === null, {
      timeout: 180_000,
    })
    await kubectl(['-n', namespace, 'delete', 'pvc', 'data-orders-0', '--timeout=120s'], { timeout: 130_000 })
    // what tells of backups, and what holds them, outlived the database
    expect(await find(namespace, 'pvc', 'orders-backups')).not.toBeNull()
    expect((await get(namespace, 'kvbak', 'before-loss')).status.phase).toBe('Completed')
    await apply([database('orders', { bootstrap: { restore: { backup: 'before-loss' } } })])
    await ready('orders')
    const after = await stats('orders')
    expect(after).toMatchObject({ digest: status.digest, count: String(status.records) })
    expect(after.lineage).not.toBe(lineage)
    expect(ledger.length).toBeGreaterThan(0)
  })
})

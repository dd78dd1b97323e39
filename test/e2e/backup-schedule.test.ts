import { expect } from 'vitest'
import { lose, podsWith, says, statsOf } from './support/backup.ts'
import { Bucket, SECRET } from './support/bucket.ts'
import { applyDatabase, ready } from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { Direct } from './support/forward.ts'
import { find, get, kubectl, list, patch } from './support/kubectl.ts'
import { Ledger } from './support/ledger.ts'
import { testNamespace } from './support/namespace.ts'
import { group } from './support/steps.ts'

const namespace = testNamespace('schedule')
const bucket = new Bucket(namespace)
const SEED = Number(process.env.KVIDX_TEST_SEED ?? Date.now() % 1_000_000)

const EVERY_MINUTE = {
  schedules: [{ name: 'minute', schedule: '* * * * *', verify: true }],
  scratch: { size: '256Mi' },
}

/** A backup of the schedule under write load, what is said of it, and the end of the schedule. */
async function underLoad(name: string, ledger: Ledger): Promise<void> {
  const database = new Direct(namespace, name)
  try {
    ledger.start(database, 2, 20)
    const made = await eventually(
      `${name} has a verified backup`,
      async () => {
        const mine = (await list(namespace, 'kvbak', 'kvidx.io/schedule=minute')).filter(
          ({ spec }) => spec.database === name,
        )
        const failed = mine.filter(({ status }) => status?.phase === 'Failed')
        expect(failed.map(({ status }) => status?.error)).toEqual([])
        return mine.find(({ status }) => status?.verification === 'Verified') ?? null
      },
      { timeout: 180_000, interval: 1000 },
    )
    await ledger.stop()
    expect(ledger.unknown).toBe(0)
    expect(made.metadata.name).toMatch(new RegExp(`^${name}-minute-\\d{8}t\\d{4}z$`))
    // what is in the backup, said by those who wrote it
    const seq = Number(made.status.position.split('.')[1])
    expect(ledger.entries.length).toBeGreaterThan(seq)
    expect({ count: String(made.status.records), digest: made.status.digest }).toEqual(ledger.at(seq))
    const object = await says(namespace, name, 'BackupVerified', { status: 'True', reason: 'Verified' })
    await says(namespace, name, 'BackupsHealthy', { status: 'True', reason: 'BackupsCurrent' })
    const { lastVerified, schedules } = object.status.backup
    expect(lastVerified).toMatchObject({ name: expect.stringContaining(`${name}-minute-`) })
    expect(schedules).toEqual([
      expect.objectContaining({ name: 'minute', nextRun: expect.any(String), lastSuccess: expect.any(String) }),
    ])
    await patch(namespace, 'kvdb', name, { spec: { backup: { suspend: true } } })
    await says(namespace, name, 'BackupsHealthy', { reason: 'BackupsSuspended' })
    await eventually('no job runs', async () => {
      const jobs = await list(namespace, 'jobs', `kvidx.io/database=${name}`)
      expect(jobs.filter(({ status }) => status?.active).map(({ metadata }) => metadata.name)).toEqual([])
    })
  } finally {
    await database.stop()
  }
}

/** The newest backup that the database had. */
async function newest(name: string) {
  const records = await list(namespace, 'kvbak')
  const mine = records.filter(({ spec, status }) => spec.database === name && status?.phase === 'Completed')
  const [last] = mine.toSorted((a, b) => b.status.completedAt.localeCompare(a.status.completedAt))
  if (!last) throw new Error(`${name} has no backup`)
  return last
}

async function sameAgain(name: string, before: { status?: { digest: string; records: number; lineage: string } }) {
  await ready(namespace, name, 240_000)
  const database = new Direct(namespace, name)
  try {
    const { digest, count, lineage } = await statsOf(database)
    expect({ digest, count }).toEqual({ digest: before.status?.digest, count: String(before.status?.records) })
    expect(lineage).not.toBe(before.status?.lineage)
  } finally {
    await database.stop()
  }
}

console.log(`seed of the writers: ${SEED} (KVIDX_TEST_SEED)`)
const onVolume = new Ledger(SEED)
const inBucket = new Ledger(SEED + 1)
const volume = { ...EVERY_MINUTE, destination: { volume: { size: '512Mi' } } }
const s3 = () => ({ ...EVERY_MINUTE, destination: { s3: bucket.place } })

group('every minute, to a volume', [
  [
    'a verified backup under write load equals what was acknowledged',
    async () => {
      await applyDatabase(namespace, 'shelf', { backup: volume })
      await ready(namespace, 'shelf', 240_000)
      await underLoad('shelf', onVolume)
    },
  ],
  [
    'a database that is lost with its volume comes back from a KvidxBackup by name',
    async () => {
      const last = await newest('shelf')
      await lose(namespace, 'shelf')
      expect(await find(namespace, 'pvc', 'shelf-backups')).not.toBeNull()
      expect((await get(namespace, 'kvbak', last.metadata.name)).status.phase).toBe('Completed')
      const bootstrap = { restore: { backup: last.metadata.name } }
      await applyDatabase(namespace, 'shelf', { backup: { ...volume, suspend: true }, bootstrap })
      await sameAgain('shelf', last)
    },
  ],
  [
    'another database begins as a copy of what lies on that volume',
    async () => {
      const last = await newest('shelf')
      const source = { database: 'shelf', lineage: last.status.lineage, volume: { claimName: 'shelf-backups' } }
      // the volume can be on one node alone, and the pod of its database has it
      const beside = {
        labelSelector: { matchLabels: { 'kvidx.io/database': 'shelf' } },
        topologyKey: 'kubernetes.io/hostname',
      }
      const affinity = { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [beside] } }
      const podTemplate = { spec: { affinity } }
      await applyDatabase(namespace, 'shelf-copy', { engine: 'LMDB', podTemplate, bootstrap: { restore: { source } } })
      await sameAgain('shelf-copy', last)
    },
  ],
])

group('every minute, to a bucket', [
  [
    'a verified backup under write load equals what was acknowledged',
    async () => {
      await applyDatabase(namespace, 'cloud', { backup: s3() })
      await ready(namespace, 'cloud', 240_000)
      await underLoad('cloud', inBucket)
    },
  ],
  [
    'only the pods of jobs have the credentials',
    async () => {
      const pods = await podsWith(namespace, SECRET)
      expect(pods.length).toBeGreaterThan(0)
      for (const { metadata } of pods) expect(metadata.labels?.['app.kubernetes.io/component']).toBe('backup')
      const { secretAccessKey } = bucket.server
      const everything = await kubectl([
        '-n',
        namespace,
        'get',
        'kvdb,kvbak,cm,pods,jobs,cronjobs,events',
        '-o',
        'json',
      ])
      expect(everything).not.toContain(secretAccessKey)
    },
  ],
  [
    'a database that is lost with its volume comes back from the newest in the bucket',
    async () => {
      const last = await newest('cloud')
      await lose(namespace, 'cloud')
      const bootstrap = { restore: { source: { database: 'cloud' } } }
      await applyDatabase(namespace, 'cloud', { backup: { ...s3(), suspend: true }, bootstrap })
      await sameAgain('cloud', last)
    },
  ],
  [
    'another engine begins as a copy of what lies there, without a destination of its own',
    async () => {
      const last = await newest('cloud')
      const source = { database: 'cloud', lineage: last.status.lineage, s3: bucket.place }
      await applyDatabase(namespace, 'cloud-copy', { engine: 'RocksDB', bootstrap: { restore: { source } } })
      await sameAgain('cloud-copy', last)
    },
  ],
])

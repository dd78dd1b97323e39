import { expect } from 'vitest'
import { random } from '../support/random.ts'
import { ended, made, restore, statsOf } from './support/backup.ts'
import { Bucket, SECRET } from './support/bucket.ts'
import { applyDatabase, ready } from './support/database.ts'
import { e2e } from './support/environment.ts'
import { eventually } from './support/eventually.ts'
import { Direct } from './support/forward.ts'
import { apply, kubectl } from './support/kubectl.ts'
import { Ledger } from './support/ledger.ts'
import { testNamespace } from './support/namespace.ts'
import { exec } from './support/pod.ts'
import { group } from './support/steps.ts'

const namespace = testNamespace('moments')
const bucket = new Bucket(namespace)
const SEED = Number(process.env.KVIDX_TEST_SEED ?? Date.now() % 1_000_000)
console.log(`seed of the writers and of the moments: ${SEED} (KVIDX_TEST_SEED)`)

const MOMENTS = 20
const ANEW = 3
const IN_PLACE = 3
const WRITTEN_FOR = 45_000

const ledger = new Ledger(SEED)
let moments: readonly number[] = []
const iso = (moment: number) => new Date(moment).toISOString()

/** What was restored for a moment is what was acknowledged up to it: neither less nor more, and no mix. */
function check(moment: number, reached: string, found: { readonly count: string; readonly digest: string }): void {
  const seq = Number(reached.split('.')[1])
  const { least, most } = ledger.boundsAt(moment)
  expect(seq, `${iso(moment)} gave ${reached}`).toBeGreaterThanOrEqual(least)
  expect(seq, `${iso(moment)} gave ${reached}`).toBeLessThanOrEqual(most)
  expect(found, `${iso(moment)} gave ${reached}`).toEqual(ledger.at(seq))
}

const destination = () => ({ destination: { s3: bucket.place }, scratch: { size: '256Mi' } })
const toBucket = () => ({
  ...destination(),
  schedules: [{ name: 'yearly', schedule: '0 0 1 1 *' }],
  continuous: { enabled: true, interval: '300ms' },
})

group('the ledger of acknowledged writes', [
  [
    'is shipped to the bucket while it is written, with a Full in the middle',
    async () => {
      await applyDatabase(namespace, 'orders', { backup: toBucket() })
      await ready(namespace, 'orders', 240_000)
      const database = new Direct(namespace, 'orders')
      try {
        await ledger.write(database)
        await made(namespace, 'first', { database: 'orders' })
        const began = Date.now()
        ledger.start(database, 4, 5)
        const full = made(namespace, 'middle', { database: 'orders' })
        await new Promise(resolve => setTimeout(resolve, WRITTEN_FOR))
        await ledger.stop()
        expect(ledger.unknown).toBe(0)
        const { position, digest, records } = await full
        expect({ count: String(records), digest }).toEqual(ledger.at(Number(position.split('.')[1])))
        const end = Math.max(...ledger.entries.map(({ answered }) => answered))
        const next = random(SEED)
        // newest first: a restore in place makes what is behind it another branch
        moments = Array.from({ length: MOMENTS }, () => Math.floor(began + next() * (end - began))).sort(
          (a, b) => b - a,
        )
        console.log(`${ledger.entries.length} acknowledged writes in ${end - began} ms`)
        const last = Math.max(...ledger.entries.map(({ seq }) => seq))
        expect(await statsOf(database)).toMatchObject({ ...ledger.at(last), position: `1.${last}` })
        await eventually('everything is in the bucket', async () => {
          const { backup } = JSON.parse(await operations('orders', '/status')) as {
            backup: { continuous: { backlogChanges: number; state: string } }
          }
          expect(backup.continuous).toMatchObject({ state: 'Shipping', backlogChanges: 0 })
        })
      } finally {
        await database.stop()
      }
    },
  ],
  [
    'is restored from the bucket alone to 14 random moments, exactly',
    async () => {
      await apply([tool()], { namespace })
      await kubectl(['-n', namespace, 'wait', '--for=condition=Ready', 'pod/tool', '--timeout=90s'], {
        timeout: 95_000,
      })
      const engines = ['SQLite', 'LMDB', 'RocksDB']
      const chosen = moments.filter((_, index) => index >= ANEW + IN_PLACE)
      expect(chosen).toHaveLength(MOMENTS - ANEW - IN_PLACE)
      for (const [index, moment] of chosen.entries()) {
        const engine = engines[index % 3] ?? ''
        const target = ['--data-dir', `/scratch/${index}`, '--engine', engine]
        const from = ['--store', bucket.url, '--at', iso(moment), '--output', 'json']
        const printed = await exec(namespace, 'tool', 'tool', ['kvidx', 'backup', 'restore', ...from, ...target])
        const { reached, count, digest } = JSON.parse(printed) as { reached: string; count: string; digest: string }
        check(moment, reached, { count, digest })
      }
    },
  ],
  [
    'is restored into new databases of other engines at 3 random moments, exactly',
    async () => {
      const chosen = moments.filter((_, index) => index >= IN_PLACE && index < ANEW + IN_PLACE)
      expect(chosen).toHaveLength(ANEW)
      await Promise.all(
        chosen.map(async (moment, index) => {
          const name = `anew-${index}`
          const bootstrap = { restore: { source: { database: 'orders' }, time: iso(moment) } }
          const engine = index === 0 ? 'LMDB' : index === 1 ? 'RocksDB' : 'SQLite'
          await applyDatabase(namespace, name, { engine, bootstrap, backup: destination() })
          await ready(namespace, name, 240_000)
          const database = new Direct(namespace, name)
          try {
            const { position, count, digest } = await statsOf(database)
            check(moment, position, { count, digest })
          } finally {
            await database.stop()
          }
        }),
      )
    },
  ],
  [
    'is restored in place at 3 random moments, the newest first, exactly',
    async () => {
      const database = new Direct(namespace, 'orders')
      try {
        for (const [index, moment] of moments.slice(0, IN_PLACE).entries()) {
          const name = `back-${index}`
          const spec = { database: 'orders', from: { time: iso(moment) }, atEpoch: index + 1 }
          await apply([restore(namespace, name, spec)])
          const { status } = await ended(namespace, 'kvres', name)
          expect(status).toMatchObject({ phase: 'Completed', epoch: index + 2 })
          check(moment, status.target, { count: String(status.records), digest: status.digest })
          const { count, digest, position } = await eventually('it serves', () => statsOf(database))
          expect({ count, digest }).toEqual({ count: String(status.records), digest: status.digest })
          expect(position).toBe(`${index + 2}.${status.target.split('.')[1]}`)
        }
      } finally {
        await database.stop()
      }
    },
  ],
])

/** GET of the operations port, through the API server. */
function operations(name: string, path: string): Promise<string> {
  return kubectl(['get', '--raw', `/api/v1/namespaces/${namespace}/pods/${name}-0:8080/proxy${path}`])
}

/** A pod of nobody, with the program and the credentials: what is left when operator and database are gone. */
function tool(): object {
  const env = [
    ['AWS_ACCESS_KEY_ID', 'accessKeyId'],
    ['AWS_SECRET_ACCESS_KEY', 'secretAccessKey'],
  ].map(([name, key]) => ({ name, valueFrom: { secretKeyRef: { name: SECRET, key } } }))
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'tool' },
    spec: {
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 10001,
        fsGroup: 10001,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      containers: [
        {
          name: 'tool',
          image: e2e.image,
          imagePullPolicy: 'IfNotPresent',
          command: ['node', '-e', 'setInterval(() => {}, 2 ** 30)'],
          env: [...env, { name: 'TMPDIR', value: '/scratch' }],
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
          volumeMounts: [{ name: 'scratch', mountPath: '/scratch' }],
        },
      ],
      volumes: [{ name: 'scratch', emptyDir: {} }],
    },
  }
}

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { random as seeded } from '../support/random.ts'
import { applyDatabase, read, ready, write } from './support/database.ts'
import { e2e } from './support/environment.ts'
import { eventually } from './support/eventually.ts'
import { canBreak } from './support/fault.ts'
import { RELEASE } from './support/helm.ts'
import { find, get, kubectl, list, patch } from './support/kubectl.ts'
import { LocalOperator } from './support/local-operator.ts'
import { testNamespace } from './support/namespace.ts'
import { Client } from './support/pod.ts'

const namespace = testNamespace('kills')
const KILLS = 50
const DATABASES = 20
/** So many are there and have data before the first kill. */
const FIRST = 6

/** Stands in the log when it begins to work. */
const WORKS = '"msg":"caches are filled"'

/** What is asked of a database at the moment. */
interface Wanted {
  policy: 'Retain' | 'Delete'
  cacheSize: string
  slowOperation: string
  size: string
}

const scale = async (replicas: number): Promise<void> => {
  const deployment = ['-n', e2e.operatorNamespace]
  await kubectl([...deployment, 'scale', `deployment/${RELEASE}`, `--replicas=${replicas}`])
  await kubectl([...deployment, 'rollout', 'status', `deployment/${RELEASE}`, '--timeout=120s'], { timeout: 130_000 })
}

describe.skipIf(!canBreak)('an operator that is killed again and again', () => {
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-e2e-kills-'))
  const random = seeded(20_261)
  const present = new Map<string, Wanted>()
  const deleted = new Map<string, Wanted>()
  let operator: LocalOperator
  let client: Client
  let made = 0

  const specOf = ({ policy, cacheSize, slowOperation, size }: Wanted) => ({
    storage: { size, deletionPolicy: policy },
    tuning: { cacheSize },
    monitoring: { slowOperation },
  })
  const create = async (): Promise<string> => {
    const name = `db-${made++}`
    const wanted: Wanted = {
      policy: random() < 0.5 ? 'Retain' : 'Delete',
      cacheSize: '32Mi',
      slowOperation: '100ms',
      size: '320Mi',
    }
    await applyDatabase(namespace, name, specOf(wanted))
    present.set(name, wanted)
    return name
  }
  const pick = (): string => [...present.keys()][Math.floor(random() * present.size)] as string

  /** One step of what people do meanwhile. */
  const act = async (): Promise<void> => {
    const dice = random()
    if (made < DATABASES && dice < 0.35) {
      await create()
      return
    }
    const name = pick()
    const wanted = present.get(name) as Wanted
    if (dice < 0.5 && present.size > DATABASES / 3) {
      // a policy that no operator has seen yet is carried out by nobody: what is there stays
      const { metadata } = await get(namespace, 'kvdb', name)
      const policy = metadata.finalizers?.length ? wanted.policy : 'Retain'
      await kubectl(['-n', namespace, 'delete', 'kvdb', name, '--wait=false'])
      present.delete(name)
      deleted.set(name, { ...wanted, policy })
      return
    }
    if (dice < 0.65) wanted.cacheSize = `${32 + Math.floor(random() * 32)}Mi`
    else if (dice < 0.75) wanted.size = '384Mi'
    else if (dice < 0.85) wanted.policy = random() < 0.5 ? 'Retain' : 'Delete'
    else wanted.slowOperation = `${100 + Math.floor(random() * 100)}ms`
    await patch(namespace, 'kvdb', name, { spec: specOf(wanted) })
  }

  beforeAll(async () => {
    await scale(0)
    operator = await LocalOperator.prepare(directory)
    client = await Client.start(namespace)
    operator.start()
    const names: string[] = []
    for (let index = 0; index < FIRST; index++) names.push(await create())
    for (const name of names) {
      await ready(namespace, name)
      await write(client, name, 1, name)
    }
    await operator.kill()
  }, 300_000)

  afterAll(async () => {
    await operator?.kill()
    await scale(2)
    rmSync(directory, { recursive: true, force: true })
  }, 180_000)

  test(`${KILLS} kills while ${DATABASES} databases are made, changed and deleted`, { timeout: 600_000 }, async () => {
    for (let kill = 0; kill < KILLS; kill++) {
      const written = readFileSync(operator.logFile, 'utf8').length
      operator.start()
      const people = act().then(act)
      // every third dies in its start, wherever that is by then; the others in their work
      if (kill % 3 > 0)
        await eventually('it works', () => readFileSync(operator.logFile, 'utf8').includes(WORKS, written), {
          interval: 20,
        })
      await sleep(random() * 1000)
      await operator.kill()
      await people
    }
    operator.start()
    expect(made).toBe(DATABASES)
    expect(deleted.size).toBeGreaterThan(2)
    // it did its work between the kills, and not only after the last one
    const lives = readFileSync(operator.logFile, 'utf8').split(WORKS)
    expect(lives.filter(life => life.includes('"msg":"changing"')).length).toBeGreaterThan(KILLS / 4)
  })

  test('every database that is wanted becomes Ready, as it was asked for last, with its data', {
    timeout: 600_000,
  }, async () => {
    for (const [name, wanted] of present) {
      await ready(namespace, name, 300_000)
      const config = await get(namespace, 'configmap', `${name}-config`)
      const text = (config.data as Record<string, string>)['config.json'] ?? ''
      expect(text, name).toContain(`"slowOperation": ${Number.parseInt(wanted.slowOperation, 10)},`)
      const set = await get(namespace, 'statefulset', name)
      expect(set.spec.volumeClaimTemplates[0].spec.resources.requests.storage, name).toBe(wanted.size)
      const limit = set.spec.template.spec.containers[0].resources.limits.memory
      expect(limit, name).toBe(`${1024 + 2 * Number.parseInt(wanted.cacheSize, 10)}Mi`)
      await eventually(`the volume of ${name} has its size`, async () =>
        expect((await get(namespace, 'pvc', `data-${name}-0`)).status.capacity.storage).toBe(wanted.size),
      )
      const pod = await get(namespace, 'pod', `${name}-0`)
      expect(pod.metadata.labels?.['controller-revision-hash'], name).toBe(set.status.updateRevision)
      if (Number(name.slice(3)) < FIRST) expect(await read(client, name, 1)).toBe(name)
    }
  })

  test('of those that were deleted nothing is left but what Retain keeps', { timeout: 180_000 }, async () => {
    for (const [name, { policy }] of deleted) {
      await eventually(`${name} is gone`, async () => (await find(namespace, 'kvdb', name)) === null)
      if (policy === 'Delete')
        await eventually(`the volume of ${name} is gone`, async () =>
          expect((await find(namespace, 'pvc', `data-${name}-0`))?.metadata ?? null).toBeNull(),
        )
    }
    const owners = new Set([...present.keys()])
    const kept = new Set([...deleted].filter(([, { policy }]) => policy === 'Retain').map(([name]) => name))
    const kinds = 'statefulset,pod,service,configmap,secret,serviceaccount,role,rolebinding,networkpolicy,cronjob,pvc'
    await eventually('nothing is orphaned', async () => {
      const orphans = (await list(namespace, kinds, 'kvidx.io/database')).filter(({ kind, metadata }) => {
        const name = metadata.labels?.['kvidx.io/database'] ?? ''
        return !owners.has(name) && !(kind === 'PersistentVolumeClaim' && kept.has(name))
      })
      expect(orphans.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([])
    })
    const volumes = await list(namespace, 'pv')
    const claims = volumes
      .filter(({ spec }) => spec.claimRef?.namespace === namespace)
      .map(({ spec }) => String(spec.claimRef.name).replace(/^data-(.*)-0$/, '$1'))
    for (const name of claims) expect(owners.has(name) || kept.has(name), name).toBe(true)
  })
})

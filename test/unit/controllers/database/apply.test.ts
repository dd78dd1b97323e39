import { describe, expect, test } from 'vitest'
import { carryOut } from '../../../../src/controllers/database/apply.ts'
import { DATABASE_LABEL } from '../../../../src/controllers/database/names.ts'
import type { Action } from '../../../../src/controllers/database/observed.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import type { KubeApi } from '../../../../src/kube/api.ts'
import { KubeApiError } from '../../../../src/kube/api-error.ts'
import type { KubeObject, OwnerReference, Resource } from '../../../../src/kube/object.ts'
import { blueprint, databaseOf, TO_VOLUME } from '../backup/blueprints.ts'
import { findingsInWords, nothing } from './scene.ts'

/** Takes creates, each for a moment, and refuses those of some kinds. */
class SlowApi {
  readonly log: string[] = []
  running = 0
  most = 0
  readonly #refused: Readonly<Record<string, KubeApiError>>

  constructor(refused: Readonly<Record<string, KubeApiError>> = {}) {
    this.#refused = refused
  }

  async create(resource: Resource, object: KubeObject): Promise<KubeObject> {
    const what = `${resource.kind} ${object.metadata.name}`
    this.log.push(`> ${what}`)
    this.most = Math.max(this.most, ++this.running)
    await new Promise(resolve => setTimeout(resolve, 5))
    this.running--
    this.log.push(`< ${what}`)
    const error = this.#refused[resource.kind]
    if (error) throw error
    return object
  }
}

const failed = (status: number, reason: string, causes: readonly object[] = []) =>
  new KubeApiError({ status, reason, message: reason, details: { causes } } as never)

const run = (
  api: SlowApi,
  actions: readonly Action[] = planAll(blueprint(TO_VOLUME), nothing(databaseOf(TO_VOLUME))).actions,
) => carryOut(api as unknown as KubeApi, actions, 'owner', new AbortController().signal)

describe('carrying out the plan of a new database', () => {
  test('makes at one time what does not depend on each other', async () => {
    const api = new SlowApi()
    const { done, findings, error } = await run(api)
    expect([findings, error]).toEqual([[], undefined])
    expect(api.most).toBeGreaterThanOrEqual(4)
    expect(done).toHaveLength(api.log.length / 2)
  })

  test('makes a Role before its RoleBinding, and everything that a pod needs before the StatefulSet', async () => {
    const { log } = await (async () => {
      const api = new SlowApi()
      await run(api)
      return api
    })()
    const at = (line: string) => {
      expect(log).toContain(line)
      return log.indexOf(line)
    }
    expect(at('< Role orders-backup')).toBeLessThan(at('> RoleBinding orders-backup'))
    const start = at('> StatefulSet orders')
    for (const need of [
      'Secret orders-auth',
      'ServiceAccount orders',
      'ConfigMap orders-config',
      'Service orders-headless',
    ])
      expect(at(`< ${need}`)).toBeLessThan(start)
    expect(at('< PersistentVolumeClaim orders-backups')).toBeLessThan(start)
  })

  test('does the rest where one thing fails, and ends with that failure', async () => {
    const api = new SlowApi({ Service: failed(500, 'InternalError') })
    const { done, findings, error } = await run(api)
    expect((error as KubeApiError).status).toBe(500)
    expect(findingsInWords(findings)).toEqual(Array(3).fill('Reconciling=True/ReconcileFailed'))
    expect(done.map(({ resource }) => resource.kind)).toContain('StatefulSet')
  })

  test.each([
    ['of this database, with its labels: the watch is only late', 'owner', {}, []],
    ['of this database, without them', 'owner', { [DATABASE_LABEL]: undefined }, ['Stalled=True/LabelsMissing']],
    ['of another', 'another', {}, ['Stalled=True/NameConflict']],
    ['of another, unlabelled', 'another', { [DATABASE_LABEL]: undefined }, ['Stalled=True/NameConflict']],
  ])('the Secret is there, %s', async (_, uid, labels, said) => {
    const actions = planAll(blueprint(TO_VOLUME), nothing(databaseOf(TO_VOLUME))).actions.filter(
      ({ resource }) => resource.kind === 'Secret',
    )
    const secret = (actions[0] as { object: KubeObject }).object
    const ownerReferences = [{ ...(secret.metadata.ownerReferences?.[0] as OwnerReference), uid }]
    const there = {
      ...secret,
      metadata: { ...secret.metadata, ownerReferences, labels: { ...secret.metadata.labels, ...labels } },
    }
    const api = {
      create: () => Promise.reject(failed(409, 'AlreadyExists')),
      get: () => Promise.resolve(there),
    }
    const { findings, error } = await carryOut(
      api as unknown as KubeApi,
      actions,
      'owner',
      new AbortController().signal,
    )
    expect(error).toBeUndefined()
    expect(findingsInWords(findings)).toEqual(said)
    if (said[0]?.endsWith('LabelsMissing'))
      expect(findings[0]?.values).toMatchObject({ name: 'orders-auth', labels: 'kvidx.io/database=orders' })
  })

  test('a volume of backups that somebody else made is used as it is', async () => {
    const actions = planAll(blueprint(TO_VOLUME), nothing(databaseOf(TO_VOLUME))).actions.filter(
      ({ resource }) => resource.kind === 'PersistentVolumeClaim',
    )
    expect(actions).toHaveLength(1)
    const api = {
      create: () => Promise.reject(failed(409, 'AlreadyExists')),
      get: () => Promise.resolve({ metadata: { name: 'orders-backups' } }),
    }
    const done = await carryOut(api as unknown as KubeApi, actions, 'owner', new AbortController().signal)
    expect(done).toMatchObject({ findings: [], error: undefined })
  })

  test('leaves a namespace that is going alone, once all that was sent has an answer', async () => {
    const terminating = failed(403, 'Forbidden', [{ reason: 'NamespaceTerminating', message: '', field: '' }])
    const api = new SlowApi({ Role: terminating })
    await expect(run(api)).rejects.toBe(terminating)
    expect(api.running).toBe(0)
    expect(api.log).not.toContain('> StatefulSet orders')
  })
})

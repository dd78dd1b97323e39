import * as fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest'
import { undefinedIfMissing } from '../../../src/kube/api-error.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import { Controller, watch } from '../../../src/kube/controller.ts'
import { Informer } from '../../../src/kube/informer.ts'
import { itself } from '../../../src/kube/mapping.ts'
import type { KubeMetrics } from '../../../src/kube/metrics.ts'
import { keyOf, refOf } from '../../../src/kube/object.ts'
import { CONFIG_MAPS } from '../../../src/kube/resources.ts'
import {
  type Access,
  access,
  accessBy,
  type ConfigMap,
  configMap,
  eventually,
  freshNamespace,
  metric,
} from './access.ts'
import { FaultProxy, type ProxyFault } from './fault-proxy.ts'

const { kubeconfig, missing } = inject('controlPlane')

describe.skipIf(missing)('through a network that fails', () => {
  let direct: KubeClient
  let proxy: FaultProxy
  let namespace: string
  const ref = (name: string) => ({ namespace, name })

  beforeAll(async () => {
    ;({ api: direct } = await access(kubeconfig ?? ''))
    proxy = await FaultProxy.start(kubeconfig ?? '')
    namespace = await freshNamespace(direct, 'faults')
  })

  afterEach(() => {
    proxy.fault = () => undefined
    proxy.requests.length = 0
  })

  afterAll(async () => {
    await proxy.close()
    await direct.close()
  })

  /** Faults for the next requests, one each. */
  function next(...faults: readonly (ProxyFault | undefined)[]): void {
    const left = [...faults]
    proxy.fault = () => left.shift()
  }

  describe('the client', () => {
    let api: KubeClient
    let metrics: KubeMetrics

    beforeAll(async () => {
      ;({ api, metrics } = accessBy(proxy.kubeconfig, { timeout: 5_000 }))
      await direct.create(CONFIG_MAPS, configMap(namespace, 'there', { a: 'ü'.repeat(1000) }))
    })

    afterAll(() => api.close())

    it('waits as long as a 429 or a 503 asks, then succeeds, also with a write', async () => {
      next({ kind: 'status', status: 429, retryAfter: 1 }, { kind: 'status', status: 503, retryAfter: 0 })
      const began = Date.now()
      await api.create(CONFIG_MAPS, configMap(namespace, 'patient', {}))
      expect(Date.now() - began).toBeGreaterThanOrEqual(990)
      expect(proxy.requests.length).toBe(3)
      const counted = (code: string) =>
        metric(metrics, `kvidx_operator_api_requests_total{verb="create",resource="configmaps",code="${code}"}`)
      expect([await counted('429'), await counted('503'), await counted('201')]).toEqual([1, 1, 1])
    })

    it('does not wait longer than its caller, and then tells the answer of the server', async () => {
      proxy.fault = () => ({ kind: 'status', status: 429, reason: 'TooManyRequests', retryAfter: 20 })
      const began = Date.now()
      const error = await api.get(CONFIG_MAPS, ref('there'), { timeout: 300 }).catch(error => error)
      expect(error).toMatchObject({ status: 429, reason: 'TooManyRequests', retryAfter: 20_000 })
      expect(Date.now() - began).toBeLessThan(2_000)
    })

    it('does not repeat what failed for good', async () => {
      next({ kind: 'status', status: 500 })
      await expect(api.get(CONFIG_MAPS, ref('there'))).rejects.toMatchObject({ status: 500, reason: 'InternalError' })
      expect(proxy.requests.length).toBe(1)
    })

    it('repeats a read whose connection broke, but never a write, which may have been carried out', async () => {
      next({ kind: 'refuse' }, { kind: 'cut', afterBytes: 100 }, { kind: 'slow', bytes: 333, ms: 1 })
      const read = await api.get<ConfigMap>(CONFIG_MAPS, ref('there'))
      expect(read.data?.a).toBe('ü'.repeat(1000))
      next({ kind: 'loseAnswer' })
      const lost = await api.create(CONFIG_MAPS, configMap(namespace, 'lost', {})).catch(error => error)
      expect(lost).toMatchObject({ name: 'KubeApiError', status: 0, reason: 'Unreachable' })
      expect(proxy.requests.filter(request => request.method === 'POST').length).toBe(1)
      expect(await undefinedIfMissing(direct.get(CONFIG_MAPS, ref('lost')))).toBeDefined()
    })

    it('gives up on a black hole and on an answer that stops in its middle', async () => {
      for (const fault of [{ kind: 'blackHole' }, { kind: 'freeze', afterBytes: 50 }] as const) {
        proxy.fault = () => fault
        const began = Date.now()
        const error = await api.get(CONFIG_MAPS, ref('there'), { timeout: 300 }).catch(error => error)
        expect(error).toMatchObject({ status: 0, reason: 'Timeout' })
        expect(error.message).toContain('no answer within 300 ms')
        expect(Date.now() - began).toBeLessThan(2_000)
      }
    })

    it('refuses an answer that is not JSON', async () => {
      next({ kind: 'garbage', afterBytes: 30 })
      await expect(api.get(CONFIG_MAPS, ref('there'))).rejects.toMatchObject({ status: 0, reason: 'Unreachable' })
    })

    it('begins a list again, all at once, when its pages expire', async () => {
      for (let i = 0; i < 5; i++)
        await direct.apply(CONFIG_MAPS, configMap(namespace, `paged-${i}`, {}, { paged: 'yes' }))
      next(undefined, { kind: 'status', status: 410, reason: 'Expired' })
      const { items } = await api.list(CONFIG_MAPS, { namespace, labelSelector: 'paged', pageSize: 2 })
      expect(items.length).toBe(5)
      expect(proxy.requests.map(request => request.query.get('limit'))).toEqual(['2', '2', null])
    })
  })

  describe('an informer', () => {
    let through: Access
    let informer: Informer<ConfigMap>

    /** Short pauses, so that a test sees many rounds; the rules are those of production. */
    function informerOf(label: string): void {
      through = accessBy(proxy.kubeconfig, { timeout: 1_000, watchIdleTimeout: 400 })
      const { api, metrics } = through
      informer = new Informer<ConfigMap>({
        api,
        metrics,
        resource: CONFIG_MAPS,
        namespaces: [namespace],
        labelSelector: `test=${label}`,
        random: () => Math.random() * 0.05,
      })
    }

    afterEach(async () => {
      await informer?.stop()
      await through?.api.close()
    })

    it('lists by pages of 500, asks for bookmarks, and keeps no managedFields', async () => {
      await direct.apply(CONFIG_MAPS, configMap(namespace, 'lean', {}, { test: 'lean' }))
      informerOf('lean')
      informer.start()
      await informer.synced
      await eventually(
        () => proxy.requests.filter(request => request.isWatch).length,
        count => count > 0,
      )
      const [list, watched] = proxy.requests
      expect(list?.query.get('limit')).toBe('500')
      expect([watched?.isWatch, watched?.query.get('allowWatchBookmarks')]).toEqual([true, 'true'])
      expect(informer.store.get(`${namespace}/lean`)?.metadata).not.toHaveProperty('managedFields')
    })

    it('lists again on 410, also as an event, and learns what was deleted meanwhile', async () => {
      await direct.create(CONFIG_MAPS, configMap(namespace, 'relist-a', {}, { test: 'relist' }))
      await direct.create(CONFIG_MAPS, configMap(namespace, 'relist-b', {}, { test: 'relist' }))
      informerOf('relist')
      const seen: string[] = []
      informer.onChange(change => seen.push(`${change.type} ${change.object.metadata.name}`))
      informer.start()
      await informer.synced
      expect(seen.sort()).toEqual(['added relist-a', 'added relist-b'])
      let away = true
      proxy.fault = request => (request.isWatch && away ? { kind: 'refuse' } : undefined)
      proxy.cutAll()
      await direct.delete(CONFIG_MAPS, ref('relist-a'))
      await direct.create(CONFIG_MAPS, configMap(namespace, 'relist-c', {}, { test: 'relist' }))
      const expiries: ProxyFault[] = [{ kind: 'expire' }, { kind: 'status', status: 410, reason: 'Expired' }]
      away = false
      proxy.fault = request => (request.isWatch ? expiries.shift() : undefined)
      await eventually(
        () => [...informer.store.keys()].sort(),
        keys => JSON.stringify(keys) === JSON.stringify([`${namespace}/relist-b`, `${namespace}/relist-c`]),
      )
      expect(seen.slice(2).sort()).toEqual(['added relist-c', 'deleted relist-a'])
      await eventually(
        () => metric(through.metrics, 'kvidx_operator_relists_total{resource="configmaps"}'),
        count => count === 3,
      )
    })

    it('notices that a watch is dead although its connection is open', async () => {
      informerOf('frozen')
      informer.start()
      await informer.synced
      // all connections that are open now are silent; what comes after them works
      await eventually(
        () => proxy.requests.some(request => request.isWatch),
        begun => begun,
      )
      proxy.cutAll()
      next({ kind: 'freeze', afterBytes: 1 })
      await direct.create(CONFIG_MAPS, configMap(namespace, 'frozen-a', { big: 'x'.repeat(5000) }, { test: 'frozen' }))
      await eventually(
        () => informer.store.size,
        size => size === 1,
      )
    })

    const some = fc.constantFrom<ProxyFault | undefined>(
      undefined,
      undefined,
      { kind: 'refuse' },
      { kind: 'expire' },
      { kind: 'status', status: 410, reason: 'Expired' },
      { kind: 'status', status: 429, retryAfter: 0 },
      { kind: 'status', status: 500 },
      { kind: 'freeze', afterBytes: 700 },
      { kind: 'cut', afterBytes: 0 },
      { kind: 'cut', afterBytes: 900 },
      { kind: 'cut', afterBytes: 2001 },
      { kind: 'end', afterBytes: 1003 },
      { kind: 'garbage', afterBytes: 800 },
      { kind: 'slow', bytes: 101, ms: 2 },
    )
    const act = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ do: fc.constant('put' as const), n: fc.nat(5), value: fc.string({ unit: 'grapheme' }) }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('drop' as const), n: fc.nat(5) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(60) }) },
    )

    it('ends up equal to the server, and its changes add up to that, whatever fails and whenever', async () => {
      let round = 0
      await fc.assert(
        fc.asyncProperty(fc.array(some, { maxLength: 8 }), fc.array(act, { maxLength: 25 }), async (faults, acts) => {
          const label = `random-${round++}`
          informerOf(label)
          const mirror = new Map<string, ConfigMap>()
          const problems: string[] = []
          informer.onChange(change => {
            const key = keyOf(change.object.metadata)
            const known = mirror.get(key)
            if ((change.type === 'added') === (known !== undefined)) problems.push(`${change.type} ${key}`)
            if (change.type === 'updated' && change.previous !== known) problems.push(`${key} skipped a state`)
            if (change.type === 'deleted') mirror.delete(key)
            else mirror.set(key, change.object)
          })
          next(...faults)
          informer.start()
          for (const one of acts) {
            if (one.do === 'put') {
              await direct.apply(
                CONFIG_MAPS,
                configMap(namespace, `${label}-${one.n}`, { value: one.value }, { test: label }),
              )
            } else if (one.do === 'drop') {
              await undefinedIfMissing(direct.delete(CONFIG_MAPS, ref(`${label}-${one.n}`)))
            } else if (one.do === 'cut') {
              proxy.cutAll()
            } else {
              await new Promise(resolve => setTimeout(resolve, one.ms))
            }
          }
          proxy.fault = () => undefined
          const truth = (await direct.list<ConfigMap>(CONFIG_MAPS, { namespace, labelSelector: `test=${label}` })).items
          const wanted = JSON.stringify(
            Object.fromEntries(truth.map(one => [keyOf(one.metadata), one.metadata.resourceVersion]).sort()),
          )
          const versions = (objects: Iterable<ConfigMap>): string =>
            JSON.stringify(
              Object.fromEntries([...objects].map(one => [keyOf(one.metadata), one.metadata.resourceVersion]).sort()),
            )
          await eventually(
            () => `${versions(informer.store.all())} ${informer.isSynced}`,
            seen => seen === `${wanted} true`,
          )
          expect(versions(mirror.values())).toBe(wanted)
          expect(problems).toEqual([])
          await informer.stop()
          await through.api.close()
        }),
        { numRuns: 12, endOnFailure: true, interruptAfterTimeLimit: 15_000 },
      )
    }, 40_000)
  })

  describe('a controller', () => {
    it('brings every object to its desired state, never with two workers on one key, and then rests', async () => {
      const { api, metrics } = accessBy(proxy.kubeconfig, { timeout: 500, watchIdleTimeout: 500 })
      const random = () => Math.random() * 0.05
      const sources = new Informer<ConfigMap>({
        api,
        resource: CONFIG_MAPS,
        namespaces: [namespace],
        labelSelector: 'role=source',
        random,
      })
      const copies = new Informer<ConfigMap>({
        api,
        resource: CONFIG_MAPS,
        namespaces: [namespace],
        labelSelector: 'role=copy',
        random,
      })
      const busy = new Set<string>()
      let clashes = 0
      const controller = new Controller({
        name: 'copy',
        workers: 4,
        metrics,
        watches: [
          watch(sources, itself),
          watch(copies, copy => [`${namespace}/${copy.metadata.name.replace(/-copy$/, '')}`]),
        ],
        reconcile: async (key, signal) => {
          if (busy.has(key)) clashes++
          busy.add(key)
          try {
            const { name } = refOf(key)
            const source = sources.store.get(key)
            const copy = copies.store.get(`${key}-copy`)
            if (source === undefined) {
              if (copy !== undefined) await undefinedIfMissing(api.delete(CONFIG_MAPS, ref(`${name}-copy`), { signal }))
            } else if (copy?.data?.value !== source.data?.value) {
              await api.apply(
                CONFIG_MAPS,
                configMap(namespace, `${name}-copy`, { value: source.data?.value ?? '' }, { role: 'copy' }),
                { signal },
              )
            }
            return undefined
          } finally {
            busy.delete(key)
          }
        },
      })
      const faults: ProxyFault[] = [
        { kind: 'refuse' },
        { kind: 'status', status: 500 },
        { kind: 'status', status: 429, retryAfter: 0 },
        { kind: 'loseAnswer' },
        { kind: 'cut', afterBytes: 500 },
        { kind: 'expire' },
        { kind: 'slow', bytes: 200, ms: 1 },
        { kind: 'blackHole' },
      ]
      proxy.fault = request => {
        const fault = Math.random() < 0.25 ? faults[Math.floor(Math.random() * faults.length)] : undefined
        return fault?.kind === 'expire' && !request.isWatch ? undefined : fault
      }
      sources.start()
      copies.start()
      controller.start()
      const value = (n: number, round: number) => `${n}-${round}`
      for (let round = 0; round < 4; round++) {
        for (let n = 0; n < 8; n++) {
          await direct.apply(
            CONFIG_MAPS,
            configMap(namespace, `source-${n}`, { value: value(n, round) }, { role: 'source' }),
          )
        }
        if (round === 1) proxy.cutAll()
        // drift is put back
        await undefinedIfMissing(direct.delete(CONFIG_MAPS, ref(`source-${round}-copy`)))
      }
      await direct.delete(CONFIG_MAPS, ref('source-7'))
      await new Promise(resolve => setTimeout(resolve, 500))
      proxy.fault = () => undefined
      const wanted = Array.from({ length: 7 }, (_, n) => `source-${n}-copy=${value(n, 3)}`).join()
      await eventually(
        async () => {
          const { items } = await direct.list<ConfigMap>(CONFIG_MAPS, { namespace, labelSelector: 'role=copy' })
          return items.map(one => `${one.metadata.name}=${one.data?.value}`).join()
        },
        seen => seen === wanted,
        15_000,
      )
      expect(clashes).toBe(0)
      // what was retried comes to rest: no request but those of the watches
      await new Promise(resolve => setTimeout(resolve, 1_000))
      proxy.requests.length = 0
      await new Promise(resolve => setTimeout(resolve, 1_000))
      expect(proxy.requests.filter(request => !request.isWatch)).toEqual([])
      await controller.stop()
      await Promise.all([sources.stop(), copies.stop()])
      await api.close()
    }, 40_000)
  })
})

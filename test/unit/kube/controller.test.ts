import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import { KubeApiError } from '../../../src/kube/api-error.ts'
import { Controller, type Reconcile, watch } from '../../../src/kube/controller.ts'
import { Informer } from '../../../src/kube/informer.ts'
import { itself, namedByLabel } from '../../../src/kube/mapping.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { generationChanged } from '../../../src/kube/predicates.ts'
import { CONFIG_MAPS, SECRETS } from '../../../src/kube/resources.ts'
import { broken, MemoryApi } from './memory-api.ts'

function object(kind: string, name: string, metadata: Partial<KubeObject['metadata']> = {}): KubeObject {
  return { apiVersion: 'v1', kind, metadata: { namespace: 'n', name, ...metadata } }
}

function setUp(reconcile: Reconcile, workers = 2) {
  const clock = new ManualClock()
  const api = new MemoryApi(clock)
  const metrics = new KubeMetrics()
  const parents = new Informer({ api, resource: CONFIG_MAPS, clock, random: () => 0.5 })
  const children = new Informer({ api, resource: SECRETS, clock, random: () => 0.5 })
  const controller = new Controller({
    name: 'test',
    watches: [watch(parents, itself, generationChanged), watch(children, namedByLabel('parent'))],
    reconcile,
    workers,
    reconcileTimeout: 60_000,
    stopGrace: 5_000,
    clock,
    metrics,
  })
  return { clock, api, metrics, parents, children, controller }
}

describe('a controller', () => {
  it('begins only when every watch has its first list, then reconciles everything that is there', async () => {
    const seen: string[] = []
    const { clock, api, parents, children, controller } = setUp(async key => {
      seen.push(`${key} ${children.store.size}`)
      return undefined
    })
    api.put(CONFIG_MAPS, object('ConfigMap', 'a'))
    api.put(SECRETS, object('Secret', 's'))
    parents.start()
    controller.start()
    await clock.advance(1000)
    expect(seen).toEqual([])
    children.start()
    await clock.advance(0)
    expect(seen).toEqual(['n/a 1'])
    await controller.stop()
    await Promise.all([parents.stop(), children.stop()])
    expect(clock.pending).toBe(0)
  })

  it('can be stopped before it began', async () => {
    const { controller, clock } = setUp(async () => undefined)
    controller.start()
    await controller.stop()
    expect(clock.pending).toBe(0)
  })

  it('follows changes of owned objects to both the old and the new owner, and passes over what the predicate holds back', async () => {
    const seen: string[] = []
    const { clock, api, parents, children, controller } = setUp(async key => {
      seen.push(key)
      return undefined
    })
    parents.start()
    children.start()
    controller.start()
    api.put(CONFIG_MAPS, object('ConfigMap', 'a', { generation: 1 }))
    await clock.advance(0)
    api.put(CONFIG_MAPS, object('ConfigMap', 'a', { generation: 1 }))
    await clock.advance(0)
    expect(seen).toEqual(['n/a'])
    api.put(SECRETS, object('Secret', 's', { labels: { parent: 'a' } }))
    await clock.advance(0)
    api.put(SECRETS, object('Secret', 's', { labels: { parent: 'b' } }))
    await clock.advance(0)
    expect(seen).toEqual(['n/a', 'n/a', 'n/b', 'n/a'])
    await controller.stop()
    await Promise.all([parents.stop(), children.stop()])
  })

  it('repeats a failed key with growing delays, at least as long as the server asks, and forgets them on success', async () => {
    const at: number[] = []
    const errors = [
      broken(),
      broken(),
      new KubeApiError({ status: 429, reason: 'TooManyRequests', message: 'later', retryAfter: 3000 }),
    ]
    const { clock, api, parents, children, controller, metrics } = setUp(async () => {
      at.push(clock.monotonic())
      const error = errors.shift()
      if (error) throw error
      return { requeueAfter: 60_000 }
    })
    api.put(CONFIG_MAPS, object('ConfigMap', 'a'))
    parents.start()
    children.start()
    controller.start()
    await clock.advance(70_000)
    expect(at).toEqual([0, 5, 15, 3015, 63_015])
    const text = await metrics.registry.metrics()
    expect(text).toContain('kvidx_operator_reconcile_total{controller="test",result="error"} 3')
    expect(text).toContain('kvidx_operator_reconcile_total{controller="test",result="requeue_after"} 2')
    expect(text).toContain('kvidx_operator_reconcile_total{controller="test",result="success"} 0')
    expect(text).toContain('kvidx_operator_reconcile_duration_seconds_count{controller="test"} 5')
    await controller.stop()
    await Promise.all([parents.stop(), children.stop()])
  })

  it('begins with short delays again after a success', async () => {
    const at: number[] = []
    const fails = [true, true, false, true, false]
    const { clock, api, parents, children, controller } = setUp(async () => {
      at.push(clock.monotonic())
      if (fails.shift()) throw broken()
      return at.length === 3 ? { requeueAfter: 1000 } : undefined
    })
    api.put(CONFIG_MAPS, object('ConfigMap', 'a'))
    parents.start()
    children.start()
    controller.start()
    await clock.advance(10_000)
    expect(at).toEqual([0, 5, 15, 1015, 1020])
    await controller.stop()
    await Promise.all([parents.stop(), children.stop()])
  })

  it('aborts a reconcile that takes too long, and goes on', async () => {
    let aborts = 0
    const { clock, api, parents, children, controller } = setUp(async (_, signal) => {
      if (aborts > 0) return undefined
      await clock.sleep(Number.POSITIVE_INFINITY, signal).catch(error => {
        aborts++
        throw error
      })
      return undefined
    }, 1)
    api.put(CONFIG_MAPS, object('ConfigMap', 'a'))
    parents.start()
    children.start()
    controller.start()
    await clock.advance(59_999)
    expect(aborts).toBe(0)
    await clock.advance(10)
    expect(aborts).toBe(1)
    await controller.stop()
    await Promise.all([parents.stop(), children.stop()])
  })

  it('lets running reconciles finish on stop, takes no other key, and aborts those that take too long', async () => {
    const log: string[] = []
    const { clock, api, parents, children, controller } = setUp(async (key, signal) => {
      log.push(`begin ${key}`)
      await clock.sleep(key === 'n/slow' ? 1e9 : 1000, signal).catch(() => log.push(`cut ${key}`))
      log.push(`end ${key}`)
      return undefined
    }, 2)
    for (const name of ['slow', 'quick', 'never']) api.put(CONFIG_MAPS, object('ConfigMap', name))
    parents.start()
    children.start()
    controller.start()
    await clock.advance(0)
    let stopped = false
    const stopping = controller.stop().then(() => {
      stopped = true
    })
    await clock.advance(4_000)
    expect(log).toEqual(['begin n/slow', 'begin n/quick', 'end n/quick'])
    expect(stopped).toBe(false)
    await clock.advance(1_000)
    await stopping
    expect(log).toEqual(['begin n/slow', 'begin n/quick', 'end n/quick', 'cut n/slow', 'end n/slow'])
    await Promise.all([parents.stop(), children.stop()])
    expect(clock.pending).toBe(0)
  })
})

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import { KubeApiError } from '../../../src/kube/api-error.ts'
import { Informer } from '../../../src/kube/informer.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'
import { type KubeObject, keyOf } from '../../../src/kube/object.ts'
import { CONFIG_MAPS, SECRETS } from '../../../src/kube/resources.ts'
import type { Change } from '../../../src/kube/store.ts'
import { broken, gone, MemoryApi, type WatchFault } from './memory-api.ts'

interface ConfigMap extends KubeObject {
  readonly data: { readonly value: string }
}

function configMap(name: string, value: string): ConfigMap {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace: 'default', name }, data: { value } }
}

/** What a handler makes of the changes; complains about any that does not follow from those before. */
class Mirror {
  readonly objects = new Map<string, KubeObject>()

  take(change: Change<KubeObject>): void {
    const key = keyOf(change.object.metadata)
    const known = this.objects.get(key)
    if (change.type === 'added') expect(known).toBeUndefined()
    else expect(known?.metadata.uid).toBe(change.object.metadata.uid)
    if (change.type === 'updated') expect(change.previous).toEqual(known)
    if (change.type === 'deleted') this.objects.delete(key)
    else this.objects.set(key, change.object)
  }
}

function setUp(random = () => 0.5) {
  const clock = new ManualClock()
  const api = new MemoryApi(clock)
  const metrics = new KubeMetrics()
  const informer = new Informer<ConfigMap>({ api, resource: CONFIG_MAPS, clock, metrics, random })
  return { clock, api, metrics, informer }
}

async function counter(metrics: KubeMetrics, line: string): Promise<number> {
  const text = await metrics.registry.metrics()
  const found = text.split('\n').find(one => one.startsWith(`${line} `))
  return Number(found?.split(' ').at(-1))
}

const RELISTS = 'kvidx_operator_relists_total{resource="configmaps"}'
const restarts = (reason: string) => `kvidx_operator_watch_restarts_total{resource="configmaps",reason="${reason}"}`

describe('an informer', () => {
  it('has every object after its first list, then follows', async () => {
    const { clock, api, informer, metrics } = setUp()
    api.put(CONFIG_MAPS, configMap('a', '1'))
    expect(await counter(metrics, RELISTS)).toBe(0)
    informer.start()
    await clock.advance(0)
    await informer.synced
    const seen: string[] = []
    informer.onChange(change => seen.push(`${change.type} ${change.object.metadata.name}`))
    api.put(CONFIG_MAPS, configMap('b', '1'))
    api.put(CONFIG_MAPS, configMap('a', '2'))
    api.drop(CONFIG_MAPS, { namespace: 'default', name: 'b' })
    await clock.advance(0)
    expect(seen).toEqual(['added a', 'added b', 'updated a', 'deleted b'])
    expect(informer.store.get('default/a')?.data.value).toBe('2')
    await informer.stop()
    expect(clock.pending).toBe(0)
  })

  it('goes on from the last version after a cut, without listing again', async () => {
    const { clock, api, informer, metrics } = setUp()
    let cuts = 0
    api.watchFault = () => (cuts++ < 3 ? { events: 1, error: broken() } : undefined)
    informer.start()
    await clock.advance(0)
    for (let i = 0; i < 10; i++) {
      api.put(CONFIG_MAPS, configMap(`m${i}`, 'x'))
      await clock.advance(1000)
    }
    expect(informer.store.size).toBe(10)
    expect(await counter(metrics, RELISTS)).toBe(1)
    expect(await counter(metrics, restarts('error'))).toBe(3)
    // from the list's version, then each time from that of the one event that came
    expect(api.watchedFrom).toEqual([1, 2, 3, 4])
    await informer.stop()
  })

  it('goes on from a bookmark, behind which nothing can be compacted away', async () => {
    const { clock, api, informer, metrics } = setUp()
    let watches = 0
    api.watchFault = () => (watches++ === 0 ? { events: 0, error: broken() } : undefined)
    informer.start()
    await clock.advance(0)
    // what does not concern the watch moves the version on
    for (let i = 0; i < 5; i++) api.put(SECRETS, configMap(`m${i}`, 'x'))
    api.wake()
    await clock.advance(0)
    api.compact()
    // the event on which the first watch breaks
    api.put(CONFIG_MAPS, configMap('later', 'x'))
    await clock.advance(60_000)
    expect(api.watchedFrom).toEqual([1, 6])
    expect(await counter(metrics, RELISTS)).toBe(1)
    expect([...informer.store.keys()]).toEqual(['default/later'])
    await informer.stop()
  })

  it('lists again after 410 and tells of what was deleted or replaced meanwhile', async () => {
    const { clock, api, informer, metrics } = setUp()
    for (const name of ['stays', 'goes', 'replaced']) api.put(CONFIG_MAPS, configMap(name, '1'))
    informer.start()
    await clock.advance(0)
    const seen: string[] = []
    informer.onChange(change => seen.push(`${change.type} ${change.object.metadata.name}`))
    seen.length = 0
    // while the watch is cut, things happen and the past is compacted
    api.watchFault = () => ({ events: 0, error: broken() })
    api.put(CONFIG_MAPS, configMap('trigger', '1'))
    await clock.advance(0)
    api.drop(CONFIG_MAPS, { namespace: 'default', name: 'goes' })
    api.drop(CONFIG_MAPS, { namespace: 'default', name: 'replaced' })
    api.put(CONFIG_MAPS, configMap('replaced', '2'))
    api.compact()
    api.watchFault = () => undefined
    await clock.advance(60_000)
    expect(seen.filter(one => !one.includes('trigger'))).toEqual(['deleted goes', 'deleted replaced', 'added replaced'])
    expect(await counter(metrics, RELISTS)).toBe(2)
    expect(await counter(metrics, restarts('expired'))).toBe(1)
    await informer.stop()
  })

  it('waits 0.8 s, then twice as long each time up to 30 s, with full jitter, and never gives up', async () => {
    const { clock, api, informer } = setUp(() => 1)
    api.fault = () => ({ before: broken() })
    informer.start()
    const tries: number[] = []
    let calls = 0
    for (let t = 0; t < 200_000; t += 100) {
      await clock.advance(t === 0 ? 0 : 100)
      if ((api.calls.list ?? 0) > calls) tries.push(clock.monotonic())
      calls = api.calls.list ?? 0
    }
    expect(tries.slice(1).map((time, n) => time - (tries[n] ?? 0))).toEqual([
      800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000, 30_000,
    ])
    expect(informer.isFailing).toBe(true)
    api.fault = () => undefined
    await clock.advance(30_000)
    expect(informer.isSynced).toBe(true)
    expect(informer.isFailing).toBe(false)
    await informer.stop()
  })

  it('begins with short pauses again after something arrived', async () => {
    const { clock, api, informer } = setUp(() => 1)
    api.watchFault = () => ({ events: 1, error: broken() })
    informer.start()
    await clock.advance(0)
    for (let i = 0; i < 12; i++) {
      const before = api.calls.watch ?? 0
      api.put(CONFIG_MAPS, configMap('a', String(i)))
      await clock.advance(0)
      // the second event is the one that breaks the watch
      api.put(CONFIG_MAPS, configMap('b', String(i)))
      await clock.advance(800)
      expect(api.calls.watch).toBe(before + 1)
      await clock.advance(2000)
    }
    await informer.stop()
  })

  it('takes at least the pause that the server asked for', async () => {
    const { clock, api, informer } = setUp()
    const busy = new KubeApiError({ status: 429, reason: 'TooManyRequests', message: 'later', retryAfter: 45_000 })
    api.fault = () => ({ before: busy })
    informer.start()
    await clock.advance(44_900)
    expect(api.calls.list).toBe(1)
    await clock.advance(200)
    expect(api.calls.list).toBe(2)
    await informer.stop()
  })

  it('does not hammer a server that answers every watch with 410', async () => {
    const { clock, api, informer } = setUp(() => 1)
    api.put(CONFIG_MAPS, configMap('a', '1'))
    // compaction is always ahead of the list's version
    api.watchFault = () => {
      throw gone()
    }
    informer.start()
    await clock.advance(60_000)
    expect(api.calls.watch).toBeGreaterThan(3)
    expect(api.calls.watch).toBeLessThanOrEqual(9)
    await informer.stop()
  })

  it('goes on when a handler throws', async () => {
    const { clock, api, informer } = setUp()
    const seen: string[] = []
    informer.onChange(() => {
      throw new Error('a mistake')
    })
    informer.onChange(change => seen.push(change.object.metadata.name))
    api.put(CONFIG_MAPS, configMap('a', '1'))
    informer.start()
    await clock.advance(0)
    expect(seen).toEqual(['a'])
    await informer.stop()
  })

  it('watches each of several namespaces, and a relist of one leaves the others alone', async () => {
    const clock = new ManualClock()
    const scopes: (string | undefined)[] = []
    const api = new MemoryApi(clock)
    const list = api.list.bind(api)
    api.list = async (resource, options = {}) => {
      scopes.push(options.namespace)
      const answer = await list(resource, options)
      return { ...answer, items: answer.items.filter(item => item.metadata.namespace === options.namespace) as never }
    }
    api.put(CONFIG_MAPS, { ...configMap('a', '1'), metadata: { namespace: 'one', name: 'a' } })
    api.put(CONFIG_MAPS, { ...configMap('a', '1'), metadata: { namespace: 'two', name: 'a' } })
    const informer = new Informer({ api, resource: CONFIG_MAPS, namespaces: ['one', 'two', 'one'], clock })
    informer.start()
    await clock.advance(0)
    expect(scopes).toEqual(['one', 'two'])
    expect([...informer.store.keys()]).toEqual(['one/a', 'two/a'])
    await informer.stop()
  })
})

const name = fc.constantFrom('a', 'b', 'c', 'd')
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put' as const), name, value: fc.string({ maxLength: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('drop' as const), name }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('compact' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 0, max: 5000 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('faults' as const),
      watches: fc.array(
        fc.option(fc.record({ events: fc.nat(3), how: fc.constantFrom('end', 'broken', 'gone') }), { nil: undefined }),
        { maxLength: 4 },
      ),
      lists: fc.array(fc.boolean(), { maxLength: 3 }),
    }),
  },
)

describe('an informer against a server that fails', () => {
  it('ends up equal to the server, and its changes add up to that', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })),
        async (steps, dice) => {
          const { clock, api, informer } = setUp(() => dice.next().value ?? 0.5)
          const mirror = new Mirror()
          const problems: unknown[] = []
          informer.onChange(change => {
            try {
              mirror.take(change)
            } catch (error) {
              problems.push(error)
            }
          })
          informer.start()
          for (const one of steps) {
            switch (one.do) {
              case 'put':
                api.put(CONFIG_MAPS, configMap(one.name, one.value))
                break
              case 'drop':
                if (api.all(CONFIG_MAPS).some(object => object.metadata.name === one.name)) {
                  api.drop(CONFIG_MAPS, { namespace: 'default', name: one.name })
                }
                break
              case 'compact':
                api.compact()
                break
              case 'advance':
                await clock.advance(one.ms)
                break
              case 'faults': {
                const errors = { end: undefined, broken: broken(), gone: gone() }
                const watches = one.watches.map((fault): WatchFault | undefined => {
                  const error = fault && errors[fault.how as keyof typeof errors]
                  return fault && { events: fault.events, ...(error ? { error } : {}) }
                })
                const lists = [...one.lists]
                api.watchFault = () => watches.shift()
                api.fault = verb => (verb === 'list' && lists.shift() ? { before: broken() } : undefined)
                break
              }
            }
          }
          api.watchFault = () => undefined
          api.fault = () => undefined
          await clock.advance(120_000)
          const truth = new Map(api.all(CONFIG_MAPS).map(object => [keyOf(object.metadata), object]))
          expect(problems).toEqual([])
          expect(new Map([...informer.store.keys()].map(key => [key, informer.store.get(key)]))).toEqual(truth)
          expect(mirror.objects).toEqual(truth)
          await informer.stop()
          expect(clock.pending).toBe(0)
        },
      ),
      { numRuns: 300 },
    )
  })
})

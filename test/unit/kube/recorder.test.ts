import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import { KubeApiError } from '../../../src/kube/api-error.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { EventRecorder } from '../../../src/kube/recorder.ts'
import { EVENTS } from '../../../src/kube/resources.ts'
import { broken, MemoryApi } from './memory-api.ts'

interface Event extends KubeObject {
  readonly note: string
  readonly reason: string
  readonly series?: { readonly count: number; readonly lastObservedTime: string }
  readonly regarding: Record<string, string>
}

const orders: KubeObject = {
  apiVersion: 'kvidx.io/v1alpha1',
  kind: 'KvidxDatabase',
  metadata: { namespace: 'shop', name: 'orders', uid: 'u1', resourceVersion: '7' },
}
const ready = { type: 'Normal', reason: 'Ready', action: 'Reconcile', note: 'The database is ready' } as const

function setUp() {
  const clock = new ManualClock(Date.UTC(2026, 4, 1))
  const api = new MemoryApi(clock)
  const metrics = new KubeMetrics()
  const recorder = new EventRecorder({ api, controller: 'kvidx.io/operator', instance: 'operator-0', clock, metrics })
  const events = () => api.all(EVENTS) as Event[]
  return { clock, api, metrics, recorder, events }
}

describe('the event recorder', () => {
  it('writes an event in the namespace of its object, at once', async () => {
    const { clock, recorder, events } = setUp()
    recorder.record(orders, ready)
    await clock.advance(0)
    expect(events()).toMatchObject([
      {
        metadata: { namespace: 'shop', name: expect.stringMatching(/^orders\.[0-9a-f]+\.[0-9a-f]+$/) },
        eventTime: '2026-05-01T00:00:00.000000Z',
        reportingController: 'kvidx.io/operator',
        reportingInstance: 'operator-0',
        ...ready,
        regarding: { kind: 'KvidxDatabase', name: 'orders', namespace: 'shop', uid: 'u1' },
      },
    ])
    await recorder.stop()
    expect(clock.pending).toBe(0)
  })

  it('makes one series of what repeats: the first count soon, then every five minutes, and ends after six quiet ones', async () => {
    const { clock, api, recorder, events } = setUp()
    for (let i = 0; i < 100; i++) recorder.record(orders, ready)
    await clock.advance(10_000)
    expect(events().map(event => event.series?.count)).toEqual([100])
    for (let minute = 0; minute < 10; minute++) {
      recorder.record(orders, ready)
      await clock.advance(60_000)
    }
    expect(events().map(event => event.series?.count)).toEqual([110])
    expect((api.calls.create ?? 0) + (api.calls.patch ?? 0)).toBeLessThanOrEqual(5)
    await clock.advance(370_000)
    recorder.record(orders, ready)
    await clock.advance(0)
    expect(events().map(event => event.series?.count)).toEqual([110, undefined])
    await clock.advance(30 * 60_000)
    expect(clock.pending).toBe(0)
    await recorder.stop()
  })

  it('writes an event once, however long its way is', async () => {
    const { clock, api, recorder, events } = setUp()
    // several looks at what is not written yet come meanwhile
    api.fault = () => ({ delay: 35_000 })
    recorder.record(orders, ready)
    recorder.record(orders, { ...ready, reason: 'Starting' })
    await clock.advance(180_000)
    expect(events().map(({ reason, series }) => [reason, series])).toEqual([
      ['Ready', undefined],
      ['Starting', undefined],
    ])
    expect(api.calls).toMatchObject({ create: 2 })
    expect(api.calls.patch).toBeUndefined()
    await recorder.stop()
  })

  it('writes the event anew when the API server has forgotten it', async () => {
    const { clock, api, recorder, events } = setUp()
    recorder.record(orders, ready)
    await clock.advance(0)
    api.drop(EVENTS, events()[0]?.metadata as never)
    recorder.record(orders, ready)
    await clock.advance(10_000)
    expect(events().map(event => event.series?.count)).toEqual([2])
    await recorder.stop()
  })

  it('limits an object that is talked about too much, and counts what it dropped', async () => {
    const { clock, metrics, recorder, events } = setUp()
    for (let i = 0; i < 100; i++) recorder.record(orders, { ...ready, note: `Attempt ${i}` })
    recorder.record({ ...orders, metadata: { ...orders.metadata, name: 'other', uid: 'u2' } }, ready)
    await clock.advance(0)
    expect(events().length).toBe(26)
    expect(await metrics.registry.metrics()).toContain('kvidx_operator_events_total{outcome="dropped"} 75')
    await clock.advance(120_000)
    recorder.record(orders, { ...ready, note: 'later' })
    await clock.advance(0)
    expect(events().length).toBe(27)
    await recorder.stop()
  })

  it('tries again when the server is away, and gives up at once where nothing can be written', async () => {
    const { clock, api, metrics, recorder, events } = setUp()
    let faults = 2
    api.fault = () => (faults-- > 0 ? { before: broken() } : undefined)
    recorder.record(orders, ready)
    await clock.advance(5_000)
    expect(events().length).toBe(1)
    api.calls.create = 0
    api.fault = () => ({
      before: new KubeApiError({ status: 403, reason: 'Forbidden', message: 'namespace is terminating' }),
    })
    recorder.record(orders, { ...ready, note: 'too late' })
    await clock.advance(60_000)
    expect(api.calls.create).toBe(1)
    expect(await metrics.registry.metrics()).toContain('kvidx_operator_events_total{outcome="failed"} 1')
    await recorder.stop()
  })

  it('cuts a long note between characters, and writes about objects without a namespace in default', async () => {
    const { clock, recorder, events } = setUp()
    recorder.record(
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1' } },
      { ...ready, note: 'ü'.repeat(2000) },
    )
    await clock.advance(0)
    const event = events()[0]
    expect(event?.metadata.namespace).toBe('default')
    expect(Buffer.byteLength(event?.note ?? '')).toBeLessThanOrEqual(1024)
    expect(event?.note).toMatch(/^ü+…$/)
    await recorder.stop()
  })

  it('writes what waits when it is stopped, but not for ever', async () => {
    const { clock, api, recorder, events } = setUp()
    recorder.record(orders, ready)
    recorder.record(orders, ready)
    await recorder.stop()
    expect(events().map(event => event.series?.count)).toEqual([2])
    const other = new EventRecorder({ api, controller: 'c', instance: 'i', clock })
    api.fault = () => ({ delay: 1e9 })
    other.record(orders, { ...ready, note: 'stuck' })
    const stopping = other.stop(2_000)
    await clock.advance(2_000)
    await stopping
  })
})

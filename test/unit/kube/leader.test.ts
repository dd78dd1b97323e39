import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import type { KubeApi } from '../../../src/kube/api.ts'
import { LeaderElector } from '../../../src/kube/leader.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { LEASES } from '../../../src/kube/resources.ts'
import { broken, type Fault, MemoryApi } from './memory-api.ts'

class Candidate {
  readonly elector: LeaderElector
  readonly lost: Error[] = []

  constructor(api: KubeApi, clock: ManualClock, identity: string, random: () => number = () => 0.5) {
    this.elector = new LeaderElector({
      api,
      namespace: 'kvidx-system',
      name: 'kvidx-operator',
      identity,
      onLost: reason => this.lost.push(reason),
      clock,
      random,
    })
  }
}

function leaseOf(api: MemoryApi): Record<string, unknown> {
  return (api.all(LEASES)[0] as KubeObject & { spec: Record<string, unknown> }).spec
}

function setUp() {
  const clock = new ManualClock(Date.UTC(2026, 4, 1))
  const api = new MemoryApi(clock)
  return { clock, api, a: new Candidate(api, clock, 'a'), b: new Candidate(api, clock, 'b') }
}

describe('leader election', () => {
  it('makes the first candidate the leader, which renews with one request every 2 s; the other waits', async () => {
    const { clock, api, a, b } = setUp()
    a.elector.start()
    await clock.advance(0)
    b.elector.start()
    expect(a.elector.isLeader).toBe(true)
    expect(leaseOf(api)).toMatchObject({
      holderIdentity: 'a',
      leaseDurationSeconds: 15,
      acquireTime: '2026-05-01T00:00:00.000000Z',
      leaseTransitions: 0,
    })
    await clock.advance(60_000)
    expect(a.elector.isLeader).toBe(true)
    expect(b.elector.isLeader).toBe(false)
    expect(b.elector.holder).toBe('a')
    expect(api.calls.update).toBe(30)
    await a.elector.stop()
    await b.elector.stop()
    expect(clock.pending).toBe(0)
  })

  it('gives the lease back on stop, so that the other takes over with its next try', async () => {
    const { clock, api, a, b } = setUp()
    a.elector.start()
    b.elector.start()
    await clock.advance(10_000)
    expect(a.elector.isLeader).toBe(true)
    await a.elector.stop()
    expect(leaseOf(api).holderIdentity).toBe('')
    await clock.advance(2_400)
    expect(b.elector.isLeader).toBe(true)
    expect(leaseOf(api)).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 })
    expect(a.lost).toEqual([])
    await b.elector.stop()
  })

  it('takes over from a leader that vanished, after 15 s of its own time, whatever the times in the lease say', async () => {
    const { clock, api, b } = setUp()
    // written by a machine whose clock is a day ahead
    api.put(LEASES, {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { namespace: 'kvidx-system', name: 'kvidx-operator' },
      spec: { holderIdentity: 'gone', leaseDurationSeconds: 15, renewTime: '2026-05-02T00:00:00.000000Z' },
    } as KubeObject)
    b.elector.start()
    await clock.advance(14_900)
    clock.jump(-86_400_000)
    expect(b.elector.isLeader).toBe(false)
    await clock.advance(2_500)
    expect(b.elector.isLeader).toBe(true)
    await b.elector.stop()
  })

  it('waits as long as the holder said, if that is longer', async () => {
    const { clock, api, b } = setUp()
    api.put(LEASES, {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { namespace: 'kvidx-system', name: 'kvidx-operator' },
      spec: { holderIdentity: 'slow', leaseDurationSeconds: 60 },
    } as KubeObject)
    b.elector.start()
    await clock.advance(59_000)
    expect(b.elector.isLeader).toBe(false)
    await clock.advance(4_000)
    expect(b.elector.isLeader).toBe(true)
    await b.elector.stop()
  })

  it('gives up 10 s after the last renewal that it sent, before another one can take over', async () => {
    const { clock, api, a, b } = setUp()
    a.elector.start()
    b.elector.start()
    await clock.advance(20_000)
    api.fault = () => ({ before: broken() })
    await clock.advance(9_900)
    expect(a.elector.isLeader).toBe(true)
    await clock.advance(100)
    expect(a.elector.isLeader).toBe(false)
    await clock.advance(0)
    expect(a.lost.map(error => error.message)).toEqual(['the lease kvidx-operator could not be renewed for 10000 ms'])
    expect(b.elector.isLeader).toBe(false)
    api.fault = () => undefined
    await clock.advance(20_000)
    expect(b.elector.isLeader).toBe(true)
    await b.elector.stop()
  })

  it('counts its time from the sending of a renewal, not from the answer', async () => {
    const { clock, api, a } = setUp()
    a.elector.start()
    await clock.advance(1_999)
    // sent at 2 s, carried out at once as far as others know, answered at 7 s; nothing works after that
    let slow = 1
    api.fault = () => (slow-- > 0 ? { delay: 5_000 } : { before: broken() })
    await clock.advance(9_900)
    expect(a.elector.isLeader).toBe(true)
    await clock.advance(101)
    expect(a.elector.isLeader).toBe(false)
    expect(a.lost.length).toBe(1)
  })

  it('gives up at once when somebody else holds the lease', async () => {
    const { clock, api, a } = setUp()
    a.elector.start()
    await clock.advance(5_000)
    const lease = api.all(LEASES)[0] as KubeObject & { spec: object }
    api.put(LEASES, { ...lease, spec: { ...lease.spec, holderIdentity: 'thief' } } as KubeObject)
    await clock.advance(2_000)
    expect(a.lost.map(error => error.message)).toEqual(['the lease kvidx-operator is held by thief now'])
  })

  it('stays the leader when the answer to a renewal is lost', async () => {
    const { clock, api, a } = setUp()
    a.elector.start()
    await clock.advance(5_000)
    let faults = 1
    api.fault = verb => (verb === 'update' && faults-- > 0 ? { after: broken() } : undefined)
    await clock.advance(30_000)
    expect(a.elector.isLeader).toBe(true)
    expect(a.lost).toEqual([])
    await a.elector.stop()
    expect(leaseOf(api).holderIdentity).toBe('')
  })

  it('refuses times that do not fit together', () => {
    const { api } = setUp()
    const options = { api, namespace: 'n', name: 'l', identity: 'a', onLost: () => {} }
    expect(() => new LeaderElector({ ...options, leaseDuration: 10_000 })).toThrow(
      /leaseDuration 10000 ms must be longer/,
    )
    expect(() => new LeaderElector({ ...options, retryPeriod: 9_000 })).toThrow(/renewDeadline 10000 ms must be longer/)
  })
})

/** Carries a request out later, even when its caller has given up: what a network does. */
function lateNetwork(
  api: MemoryApi,
  clock: ManualClock,
  fault: () => (Fault & { late?: number }) | undefined,
): KubeApi {
  const send = async <R>(run: () => Promise<R>, signal: AbortSignal | undefined): Promise<R> => {
    const one = fault()
    const work = (async () => {
      await clock.sleep(one?.late ?? 0)
      if (one?.before) throw one.before
      const answer = await run()
      if (one?.after) throw one.after
      return answer
    })()
    work.catch(() => {})
    const aborted = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
    aborted.catch(() => {})
    return await Promise.race([work, aborted])
  }
  return {
    get: (resource, ref, options) => send(() => api.get(resource, ref), options?.signal),
    list: (resource, options) => send(() => api.list(resource), options?.signal),
    create: (resource, object, options) => send(() => api.create(resource, object), options?.signal),
    update: (resource, object, options) => send(() => api.update(resource, object), options?.signal),
    patch: (resource, ref, body, options) => send(() => api.patch(resource, ref, body), options?.signal),
    delete: (resource, ref, options) => send(() => api.delete(resource, ref), options?.signal),
    apply: () => api.apply(),
    ownCreated: () => api.ownCreated(),
    watch: (resource, options) => api.watch(resource, options),
  }
}

describe('three candidates on a bad network', () => {
  const weather = fc.array(
    fc.record({
      ms: fc.integer({ min: 500, max: 20_000 }),
      kind: fc.constantFrom('good', 'good', 'down', 'lossy', 'slow', 'mixed'),
      who: fc.integer({ min: 0, max: 3 }),
      stop: fc.option(fc.nat(2), { freq: 8, nil: undefined }),
    }),
    { maxLength: 12 },
  )
  it('are never two leaders at once, and one when the network is good again', async () => {
    await fc.assert(
      fc.asyncProperty(
        weather,
        fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })),
        async (spells, dice) => {
          const roll = (): number => dice.next().value ?? 0.5
          const clock = new ManualClock()
          const api = new MemoryApi(clock)
          let spell: { kind: string; who: number } = { kind: 'good', who: 3 }
          const faultFor = (index: number) => (): (Fault & { late?: number }) | undefined => {
            if (spell.who !== 3 && spell.who !== index) return undefined
            const kind =
              spell.kind === 'mixed'
                ? (['good', 'down', 'lossy', 'slow'][Math.floor(roll() * 4)] ?? 'good')
                : spell.kind
            if (kind === 'down') return { before: broken(), late: roll() * 3000 }
            if (kind === 'lossy') return roll() < 0.5 ? { after: broken() } : undefined
            if (kind === 'slow') return { late: roll() * 20_000 }
            return undefined
          }
          const candidates: Candidate[] = []
          const join = (index: number): void => {
            candidates.push(
              new Candidate(lateNetwork(api, clock, faultFor(index)), clock, `c${candidates.length}`, roll),
            )
            candidates.at(-1)?.elector.start()
          }
          for (let i = 0; i < 3; i++) join(i)
          const watchFor = async (ms: number): Promise<void> => {
            for (let t = 0; t < ms; t += 250) {
              await clock.advance(250)
              expect(candidates.filter(one => one.elector.isLeader).length).toBeLessThanOrEqual(1)
            }
          }
          const stops: Promise<void>[] = []
          for (const next of spells) {
            spell = next
            const stopping = next.stop === undefined ? undefined : candidates[next.stop]
            // as in a rolling update: a new one for each that stops
            if (stopping !== undefined) {
              stops.push(stopping.elector.stop())
              join(next.who)
            }
            await watchFor(next.ms)
          }
          spell = { kind: 'good', who: 3 }
          // those that lost the lease left for good, as the process would exit: others come
          join(0)
          await watchFor(60_000)
          expect(candidates.filter(one => one.elector.isLeader).length).toBe(1)
          stops.push(...candidates.map(one => one.elector.stop()))
          await clock.advance(60_000)
          await Promise.all(stops)
          expect(clock.pending).toBe(0)
        },
      ),
      { numRuns: 40 },
    )
  })
})

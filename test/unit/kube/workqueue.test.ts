import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'
import { WorkQueue } from '../../../src/kube/workqueue.ts'

function queueOf(clock = new ManualClock(), metrics = new KubeMetrics()): WorkQueue {
  return new WorkQueue({ name: 'test', clock, metrics })
}

describe('the work queue', () => {
  it('hands out each waiting key once, in the order of their coming', async () => {
    const queue = queueOf()
    for (const key of ['a', 'b', 'a', 'c', 'b']) queue.add(key)
    expect([await queue.take(), await queue.take(), await queue.take()]).toEqual(['a', 'b', 'c'])
    expect(queue.depth).toBe(0)
  })

  it('hands a key out again when it was added while a worker held it, and only after that worker is done', async () => {
    const queue = queueOf()
    queue.add('a')
    await queue.take()
    queue.add('a')
    queue.add('a')
    expect(queue.depth).toBe(0)
    queue.done('a')
    expect(await queue.take()).toBe('a')
    queue.done('a')
    expect(queue.depth).toBe(0)
  })

  it('lets the earlier of two delays win, in either order', async () => {
    const clock = new ManualClock()
    const queue = queueOf(clock)
    queue.addAfter('a', 100)
    queue.addAfter('a', 50)
    queue.addAfter('b', 50)
    queue.addAfter('b', 100)
    await clock.advance(49)
    expect(queue.depth).toBe(0)
    await clock.advance(1)
    expect(queue.depth).toBe(2)
    expect(clock.pending).toBe(0)
  })

  it('doubles the delay of a key from 5 ms up to 5 minutes, and begins again after forget', () => {
    const queue = queueOf()
    const delays = Array.from({ length: 18 }, () => queue.retry('a'))
    expect(delays.slice(0, 5)).toEqual([5, 10, 20, 40, 80])
    expect(delays.slice(-2)).toEqual([300_000, 300_000])
    expect(queue.retry('b')).toBe(5)
    queue.forget('a')
    expect(queue.retries('a')).toBe(0)
    expect(queue.retry('a')).toBe(5)
    expect(queue.retry('c', 3000)).toBe(3000)
  })

  it('hands out what is ready after shutdown, takes nothing more, and resolves when the last key is back', async () => {
    const clock = new ManualClock()
    const queue = queueOf(clock)
    queue.add('a')
    queue.add('b')
    queue.addAfter('late', 10)
    expect(await queue.take()).toBe('a')
    queue.add('a')
    let drained = false
    const stopping = queue.shutdown().then(() => {
      drained = true
    })
    queue.add('c')
    queue.addAfter('d', 1)
    expect(await queue.take()).toBe('b')
    const waiting = queue.take()
    queue.done('b')
    await clock.advance(100)
    expect(drained).toBe(false)
    queue.done('a')
    expect(await waiting).toBe('a')
    expect(await queue.take()).toBeUndefined()
    queue.done('a')
    await stopping
    expect(clock.pending).toBe(0)
  })

  it('forgets what waits when it is shut down with discard, and still waits for what is held', async () => {
    const queue = queueOf()
    queue.add('a')
    queue.add('b')
    await queue.take()
    queue.add('a')
    const idle = queue.shutdown({ discard: true })
    expect(await queue.take()).toBeUndefined()
    queue.done('a')
    await idle
    expect(queue.depth).toBe(0)
  })

  it('keeps the order of thousands of keys', async () => {
    const queue = queueOf()
    const keys = Array.from({ length: 5000 }, (_, n) => `key-${n}`)
    for (const key of keys) queue.add(key)
    const taken: (string | undefined)[] = []
    for (let i = 0; i < keys.length; i++) taken.push(await queue.take())
    expect(taken).toEqual(keys)
    expect(queue.depth).toBe(0)
  })

  it('refuses done for a key that nobody holds', () => {
    expect(() => queueOf().done('a')).toThrow(/'a' was not taken/)
  })

  it('measures depth, latency and retries, beginning at zero', async () => {
    const clock = new ManualClock()
    const metrics = new KubeMetrics()
    const queue = queueOf(clock, metrics)
    expect(await metrics.registry.metrics()).toContain('kvidx_operator_queue_depth{queue="test"} 0')
    expect(await metrics.registry.metrics()).toContain('kvidx_operator_queue_retries_total{queue="test"} 0')
    queue.add('a')
    queue.retry('b')
    await clock.advance(2000)
    const text = await metrics.registry.metrics()
    expect(text).toContain('kvidx_operator_queue_depth{queue="test"} 2')
    expect(text).toContain('kvidx_operator_queue_retries_total{queue="test"} 1')
    await queue.take()
    expect(await metrics.registry.metrics()).toContain('kvidx_operator_queue_latency_seconds_sum{queue="test"} 2')
  })
})

/** The same rules written as plainly as possible. */
class Model {
  time = 0
  ready: string[] = []
  again = new Set<string>()
  held = new Set<string>()
  delayed = new Map<string, number>()
  failures = new Map<string, number>()

  add(key: string): void {
    if (this.held.has(key)) this.again.add(key)
    else if (!this.ready.includes(key)) this.ready.push(key)
  }
  addAfter(key: string, ms: number): void {
    const due = Math.min(this.delayed.get(key) ?? Number.POSITIVE_INFINITY, this.time + ms)
    if (ms <= 0) this.add(key)
    else this.delayed.set(key, due)
  }
  retry(key: string): void {
    const failures = this.failures.get(key) ?? 0
    this.failures.set(key, failures + 1)
    this.addAfter(key, Math.min(300_000, 5 * 2 ** failures))
  }
  take(): string | undefined {
    const key = this.ready.shift()
    if (key !== undefined) this.held.add(key)
    return key
  }
  done(key: string): void {
    this.held.delete(key)
    if (this.again.delete(key)) this.ready.push(key)
  }
  advance(ms: number): void {
    const end = this.time + ms
    for (;;) {
      const next = [...this.delayed].filter(([, due]) => due <= end).sort((a, b) => a[1] - b[1])[0]
      if (next === undefined) break
      // of several at one moment, the queue's order is that of their setting: the model leaves it open
      const together = [...this.delayed].filter(([, due]) => due === next[1]).map(([key]) => key)
      this.time = next[1]
      for (const key of together) {
        this.delayed.delete(key)
        this.add(key)
      }
    }
    this.time = end
  }
}

const key = fc.constantFrom('a', 'b', 'c', 'd', 'e')
const operation = fc.oneof(
  fc.record({ do: fc.constant('add' as const), key }),
  fc.record({ do: fc.constant('addAfter' as const), key, ms: fc.integer({ min: -1, max: 60 }) }),
  fc.record({ do: fc.constant('retry' as const), key }),
  fc.record({ do: fc.constant('forget' as const), key }),
  fc.record({ do: fc.constant('take' as const) }),
  fc.record({ do: fc.constant('done' as const), key }),
  fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 0, max: 80 }) }),
)

describe('the work queue against its model', () => {
  it('agrees after every operation', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 60 }), async operations => {
        const clock = new ManualClock()
        const queue = queueOf(clock)
        const model = new Model()
        for (const op of operations) {
          switch (op.do) {
            case 'add':
              queue.add(op.key)
              model.add(op.key)
              break
            case 'addAfter':
              queue.addAfter(op.key, op.ms)
              model.addAfter(op.key, op.ms)
              break
            case 'retry':
              queue.retry(op.key)
              model.retry(op.key)
              break
            case 'forget':
              queue.forget(op.key)
              model.failures.delete(op.key)
              break
            case 'take':
              if (model.ready.length === 0) break
              {
                const taken = await queue.take()
                // keys whose delays end at one moment may come in either order
                expect(model.ready).toContain(taken)
                model.ready.splice(0, model.ready.length, taken as string, ...model.ready.filter(k => k !== taken))
                expect(taken).toBe(model.take())
              }
              break
            case 'done':
              if (!model.held.has(op.key)) break
              queue.done(op.key)
              model.done(op.key)
              break
            case 'advance':
              await clock.advance(op.ms)
              model.advance(op.ms)
              break
          }
          expect(queue.depth).toBe(model.ready.length)
          expect(clock.pending).toBe(model.delayed.size)
          for (const k of ['a', 'b', 'c', 'd', 'e']) expect(queue.retries(k)).toBe(model.failures.get(k) ?? 0)
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('workers on one queue', () => {
  const plan = fc.record({
    workers: fc.integer({ min: 1, max: 4 }),
    work: fc.infiniteStream(fc.integer({ min: 0, max: 30 })),
    fails: fc.infiniteStream(fc.boolean()),
    adds: fc.array(fc.record({ key, pause: fc.integer({ min: 0, max: 20 }), delay: fc.integer({ min: 0, max: 40 }) }), {
      minLength: 1,
      maxLength: 60,
    }),
  })

  it('lose no update, and are never two on one key', async () => {
    await fc.assert(
      fc.asyncProperty(plan, async ({ workers, work, fails, adds }) => {
        const clock = new ManualClock()
        const queue = queueOf(clock)
        const wanted = new Map<string, number>()
        const done = new Map<string, number>()
        const busy = new Set<string>()
        const worker = async (): Promise<void> => {
          for (let key = await queue.take(); key !== undefined; key = await queue.take()) {
            if (busy.has(key)) throw new Error(`two workers on ${key}`)
            busy.add(key)
            const seen = wanted.get(key) ?? 0
            await clock.sleep(work.next().value ?? 0)
            busy.delete(key)
            if (fails.next().value) {
              queue.retry(key)
            } else {
              queue.forget(key)
              done.set(key, seen)
            }
            queue.done(key)
          }
        }
        const running = Promise.all(Array.from({ length: workers }, worker))
        for (const { key, pause, delay } of adds) {
          wanted.set(key, (wanted.get(key) ?? 0) + 1)
          queue.addAfter(key, delay)
          await clock.advance(pause)
        }
        // long enough for the retries: 20 failures in a row are not to be expected of a coin
        for (let i = 0; i < 40 && (queue.depth > 0 || clock.pending > 0); i++) await clock.advance(300_000)
        expect(done).toEqual(wanted)
        const stopped = queue.shutdown()
        await Promise.all([stopped, running])
      }),
      { numRuns: 150 },
    )
  })

  it('starve no key: between two turns of one, every other waiting key has its turn', async () => {
    const queue = queueOf()
    const cold = Array.from({ length: 20 }, (_, n) => `cold-${n}`)
    queue.add('hot')
    for (const key of cold) queue.add(key)
    const order: string[] = []
    for (let i = 0; i < 22; i++) {
      const key = (await queue.take()) as string
      order.push(key)
      // the hot key changes all the time
      queue.add('hot')
      queue.done(key)
    }
    expect(order).toEqual(['hot', ...cold, 'hot'])
  })
})

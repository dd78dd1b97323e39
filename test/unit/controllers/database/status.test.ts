import { describe, expect, test } from 'vitest'
import type { KvidxDatabaseStatus } from '../../../../src/api/v1alpha1/database-status.ts'
import { engineFindings, readiness } from '../../../../src/controllers/database/health.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import { statusOf } from '../../../../src/controllers/database/status.ts'
import { claim, NOW, probe, type Scene, scene, serving } from './scene.ts'

const MINUTE = 60_000

function statusAt(now: number, input: Scene = {}, before?: KvidxDatabaseStatus): KvidxDatabaseStatus {
  const { blueprint, observed } = scene({ ...input, ...(before && { status: before }) })
  const findings = [
    ...readiness(blueprint, observed, planAll(blueprint, observed).findings, false),
    ...engineFindings(blueprint, observed),
  ]
  return JSON.parse(JSON.stringify(statusOf(blueprint, observed, findings, now, undefined)))
}

const saying = (change: Parameters<typeof serving>[0]): Scene => ({
  change: observed => {
    observed.probe = probe(serving(change))
  },
})

const keys = (count: number) => ({
  data: { position: `1.${count}`, count: String(count), dataBytes: String(count * 100), digest: '1'.repeat(32) },
})

describe('the status', () => {
  test('at rest is the same at any later time', () => {
    const first = statusAt(NOW)
    for (const later of [1000, MINUTE, 11 * MINUTE, 100 * MINUTE])
      expect(statusAt(NOW + later, {}, first)).toEqual(first)
  })

  test('tells where the database is reached, and of what generation it tells', () => {
    const spec = {
      security: { tls: { secretRef: { name: 't' } }, auth: { secretRef: { name: 'mine' } }, socket: false },
    }
    expect(statusAt(NOW, { spec } as Scene)).toMatchObject({
      observedGeneration: 1,
      endpoints: {
        data: 'https://orders.shop.svc:7400',
        readOnly: 'https://orders-ro.shop.svc:7400',
        operations: 'http://orders.shop.svc:8080',
        tokenSecret: 'mine',
      },
      replicas: 1,
      readyReplicas: 1,
      primary: 'orders-0',
      selector: 'kvidx.io/database=orders',
    })
  })

  test('refreshes figures at most every 10 minutes, and only when they moved by more than 5 %', () => {
    const first = statusAt(NOW)
    expect(first.data?.keys).toBe(42)
    expect(statusAt(NOW + 9 * MINUTE, saying(keys(4200)), first).data).toEqual(first.data)
    expect(statusAt(NOW + 11 * MINUTE, saying(keys(43)), first).data).toEqual(first.data)
    expect(statusAt(NOW + 11 * MINUTE, saying(keys(50)), first).data).toMatchObject({ keys: 50, position: '1.50' })
  })

  test('keeps the position in the message still while figures are', () => {
    const first = statusAt(NOW)
    expect(statusAt(NOW + MINUTE, saying(keys(100)), first).conditions).toEqual(first.conditions)
  })

  test('tells of the volume in steps of 5 percent, and of its growth at once', () => {
    const volume = (free: number): Scene => saying({ volume: { size: 1000, free } })
    const first = statusAt(NOW, volume(700))
    expect(first.storage?.[0]).toMatchObject({ name: 'data-orders-0', usedBytes: 300, usedPercent: 30, size: '1Gi' })
    expect(statusAt(NOW + MINUTE, volume(670), first).storage).toEqual(first.storage)
    expect(statusAt(NOW + MINUTE, volume(640), first).storage?.[0]).toMatchObject({ usedPercent: 36 })
    const grown = statusAt(
      NOW,
      {
        change: observed => {
          observed.claims = [claim('1Gi', { phase: 'Bound', capacity: { storage: '2Gi' } })]
        },
      },
      first,
    )
    expect(grown.storage?.[0]).toMatchObject({ size: '2Gi' })
  })

  test('learns the lineage of a database that serves, and keeps it while it does not', () => {
    const first = statusAt(NOW)
    expect(first.lineage).toBe(serving().lineage)
    const away: Scene = {
      change: observed => {
        observed.probe = probe(serving({ ready: false, lineage: 'another' }))
      },
    }
    expect(statusAt(NOW, away, first).lineage).toBe(first.lineage)
    expect(statusAt(NOW, away).lineage).toBeUndefined()
    // after recovery.allowEmpty
    expect(statusAt(NOW, saying({ lineage: 'another' }), first).lineage).toBe('another')
  })

  test('does not change a transition time while the status of a condition is the same', () => {
    const first = statusAt(NOW)
    const degraded = statusAt(NOW + MINUTE, saying({ health: { state: 'DEGRADED', causes: [] } }), first)
    expect(degraded.conditions?.[0]?.lastTransitionTime).toBe(first.conditions?.[0]?.lastTransitionTime)
  })

  test('says that it sleeps', () => {
    const asleep: Scene = {
      spec: { hibernate: true },
      change: observed => {
        observed.pods = []
      },
    }
    expect(statusAt(NOW, asleep)).toMatchObject({ hibernated: true, replicas: 0 })
    expect(statusAt(NOW, asleep).primary).toBeUndefined()
  })
})

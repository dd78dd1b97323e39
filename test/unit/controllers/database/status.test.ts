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

  const volume = (free: number, more: object = {}): Scene => saying({ volume: { size: 1000, free, ...more } })

  test('refreshes those of the volume with them, and its growth at once', () => {
    const first = statusAt(NOW, volume(700))
    expect(first.storage?.[0]).toMatchObject({ name: 'data-orders-0', usedBytes: 300, usedPercent: 30, size: '1Gi' })
    expect(statusAt(NOW + 9 * MINUTE, volume(500), first)).toEqual(first)
    expect(statusAt(NOW + 11 * MINUTE, volume(690), first)).toEqual(first)
    const later = statusAt(NOW + 11 * MINUTE, volume(640), first)
    expect(later.storage?.[0]).toMatchObject({ usedBytes: 360, usedPercent: 36 })
    expect(later.data?.time).not.toBe(first.data?.time)
    const grown = statusAt(
      NOW,
      {
        change: observed => {
          const { metadata, ...rest } = claim('1Gi', { phase: 'Bound', capacity: { storage: '2Gi' } })
          const annotations = { 'kvidx.io/grown-at': '2026-11-23T11:00:00.123Z' }
          observed.claims = [{ ...rest, metadata: { ...metadata, annotations } }]
        },
      },
      first,
    )
    expect(grown.storage?.[0]).toMatchObject({ size: '2Gi', grownAt: '2026-11-23T11:00:00Z' })
  })

  test('tells at once that the volume crossed a threshold, and does not go to and fro about it', () => {
    const first = statusAt(NOW, volume(700))
    const reasonOf = (status: KvidxDatabaseStatus) =>
      status.conditions?.find(({ type }) => type === 'StorageHealthy')?.reason
    const full = statusAt(NOW + MINUTE, volume(150), first)
    expect([reasonOf(full), full.storage?.[0]?.usedPercent]).toEqual(['AlmostFull', 85])
    expect(statusAt(NOW + 2 * MINUTE, volume(160), full)).toEqual(full)
    const back = statusAt(NOW + 3 * MINUTE, volume(180), full)
    expect([reasonOf(back), back.storage?.[0]?.usedPercent]).toEqual(['EnoughSpace', 82])
    expect(statusAt(NOW + 4 * MINUTE, volume(160), back)).toEqual(back)
    const soon = statusAt(NOW + MINUTE, volume(700, { daysUntilFull: 6.9 }), first)
    expect([reasonOf(soon), soon.storage?.[0]?.daysUntilFull]).toEqual(['FullSoon', 6])
    expect(statusAt(NOW + 2 * MINUTE, volume(700, { daysUntilFull: 7.1 }), soon)).toEqual(soon)
    expect(reasonOf(statusAt(NOW + 2 * MINUTE, volume(700, { daysUntilFull: 11 }), soon))).toBe('EnoughSpace')
  })

  test('counts what is in quarantine, at once when something comes or goes', () => {
    const first = statusAt(NOW, volume(700, { quarantine: { entries: 0, bytes: 0 } }))
    expect(first.storage?.[0]).not.toHaveProperty('quarantine')
    const quarantine = { entries: 1, bytes: 4096, oldest: Date.UTC(2026, 10, 20) }
    const one = statusAt(NOW + MINUTE, volume(700, { quarantine }), first)
    expect(one.storage?.[0]?.quarantine).toEqual({ entries: 1, bytes: 4096, oldest: '2026-11-20T00:00:00Z' })
    expect(statusAt(NOW + 2 * MINUTE, volume(700, { quarantine }), one)).toEqual(one)
    expect(statusAt(NOW + 3 * MINUTE, volume(700), one).storage?.[0]).not.toHaveProperty('quarantine')
  })

  test('keeps what was known of the volume while its pod does not answer', () => {
    const first = statusAt(NOW, volume(700))
    const silent: Scene = {
      change: observed => {
        observed.probe = { time: NOW, pod: 'pod-1', error: 'ECONNREFUSED' }
      },
    }
    expect(statusAt(NOW + 11 * MINUTE, silent, first).storage).toEqual(first.storage)
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

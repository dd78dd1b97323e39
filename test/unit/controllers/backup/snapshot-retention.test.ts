import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type BackupRecord, newRecord } from '../../../../src/controllers/backup/record.ts'
import { excessSnapshots } from '../../../../src/controllers/backup/snapshot-retention.ts'
import { type VolumeSnapshot, volumeSnapshot } from '../../../../src/controllers/backup/volume-snapshot.ts'
import { databaseOf, TO_VOLUME } from './blueprints.ts'

interface Taken {
  /** Hours after the first. */
  readonly hour: number
  readonly schedule?: string | undefined
  readonly lineage?: string
  readonly verification?: 'Verified' | 'Failed' | 'Pending' | 'Skipped'
  readonly ready?: boolean
}

const START = Date.UTC(2026, 10, 23)
const nameOf = ({ schedule = 'hand', hour }: Taken) => `orders-${schedule}-${hour}`

function recordOf(taken: Taken): BackupRecord {
  const { schedule, verification = 'Skipped' } = taken
  const record = newRecord({
    namespace: 'shop',
    name: nameOf(taken),
    database: 'orders',
    type: 'VolumeSnapshot',
    verify: verification !== 'Skipped',
    ...(schedule !== undefined && { schedule, job: `job-${taken.hour}` }),
  })
  return { ...record, status: { phase: verification === 'Failed' ? 'Failed' : 'Completed', verification } }
}

function snapshotOf(taken: Taken): VolumeSnapshot {
  const { lineage = 'l1', hour, ready = true } = taken
  const frozen = { lineage, engine: 'SQLite', position: '1.7', records: '1', dataBytes: '1', digest: 'd' }
  const made = volumeSnapshot(databaseOf(TO_VOLUME), recordOf(taken), frozen)
  const creationTime = new Date(START + hour * 3_600_000).toISOString()
  return { ...made, status: { creationTime, readyToUse: ready } }
}

/** Names that go, oldest first. */
function gone(all: readonly Taken[], keep: number): readonly string[] {
  const excess = excessSnapshots(all.map(snapshotOf), all.map(recordOf), keep)
  return excess.map(({ metadata }) => metadata.name).toSorted()
}

const hours = (count: number, of: Omit<Taken, 'hour'>, from = 0): readonly Taken[] =>
  Array.from({ length: count }, (_, index) => ({ hour: from + index, ...of }))

describe('VolumeSnapshots that retention lets go', () => {
  test('are all of a schedule but the newest', () => {
    const disk = hours(5, { schedule: 'disk' })
    expect(gone(disk, 3)).toEqual([nameOf(disk[0] as Taken), nameOf(disk[1] as Taken)])
    expect(gone(disk.slice(2), 3)).toEqual([])
  })

  test('are not those by hand, and not one that is not ready', () => {
    expect(gone([...hours(9, {}), ...hours(9, { schedule: 'disk', ready: false })], 1)).toEqual([])
  })

  test('are not one that bears the labels of another, as a copy of its manifest does', () => {
    const [one, two] = hours(2, { schedule: 'disk' }).map(snapshotOf)
    const copy = { ...one, metadata: { ...one?.metadata, name: 'mine' } } as VolumeSnapshot
    const names = excessSnapshots([copy, two as VolumeSnapshot], [], 1).map(({ metadata }) => metadata.name)
    expect(names).toEqual([])
  })

  test('are counted by schedule: hourly ones push no weekly one out', () => {
    const weekly = hours(2, { schedule: 'weekly' })
    const result = gone([...weekly, ...hours(20, { schedule: 'hourly' }, 10)], 7)
    expect(result).toHaveLength(13)
    expect(result.every(name => name.includes('hourly'))).toBe(true)
  })

  test('are counted by lineage: a new one takes nothing of an old one, until it has as many as are kept', () => {
    const old = hours(3, { schedule: 'disk', lineage: 'l0', verification: 'Skipped' })
    const later = hours(7, { schedule: 'disk' }, 10)
    expect(gone([...old, ...later.slice(1)], 7)).toEqual([])
    expect(gone([...old, ...later.with(3, { ...(later[3] as Taken), verification: 'Failed' })], 7)).not.toContain(
      nameOf(old[0] as Taken),
    )
    // then the newest of the old one is left
    expect(gone([...old, ...later], 7)).toEqual(old.slice(0, 2).map(nameOf))
  })

  test('are, of a lineage that has ended, neither its newest proof nor those by hand, nor counted with another schedule', () => {
    const proof: Taken = { hour: 0, schedule: 'disk', lineage: 'l0', verification: 'Verified' }
    const old = [proof, ...hours(3, { schedule: 'disk', lineage: 'l0', verification: 'Pending' }, 1)]
    const byHand = hours(2, { lineage: 'l0' }, 5)
    const weekly = hours(2, { schedule: 'weekly', lineage: 'l0' }, 7)
    const later = hours(7, { schedule: 'disk' }, 10)
    expect(gone([...old, ...byHand, ...weekly, ...later], 7)).toEqual(old.slice(1, 3).map(nameOf))
  })

  test('are never the only one that was proven', () => {
    const proven: Taken = { hour: 0, schedule: 'disk', verification: 'Verified' }
    for (const verification of ['Failed', 'Pending', 'Skipped'] as const)
      expect(gone([proven, ...hours(7, { schedule: 'disk', verification }, 1)], 7)).not.toContain(nameOf(proven))
  })

  test('are refuted ones, once a newer one is not; without such the newest of them stay', () => {
    const refuted = hours(9, { schedule: 'disk', verification: 'Failed' })
    expect(gone(refuted, 7)).toHaveLength(2)
    const later: Taken = { hour: 20, schedule: 'disk', verification: 'Pending' }
    expect(gone([...refuted, later], 7)).toEqual(refuted.map(nameOf).toSorted())
  })

  test('leave, of every lineage and schedule, the newest that were not refuted (one of a lineage that has ended), and of every lineage the newest proof', () => {
    const taken = fc.record({
      schedule: fc.constantFrom('hourly', 'weekly', undefined),
      lineage: fc.constantFrom('l0', 'l1'),
      verification: fc.constantFrom('Verified', 'Failed', 'Pending', 'Skipped'),
      ready: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(taken, { maxLength: 40 }), fc.integer({ min: 1, max: 8 }), (drawn, keep) => {
        const all = drawn.map((one, hour): Taken => ({ ...one, hour })) as readonly Taken[]
        const left = all.filter(one => !gone(all, keep).includes(nameOf(one)))
        const ready = all.filter(one => one.ready && one.schedule !== undefined)
        for (const lineage of ['l0', 'l1']) {
          const proof = ready.findLast(one => one.lineage === lineage && one.verification === 'Verified')
          if (proof) expect(left).toContain(proof)
          for (const schedule of ['hourly', 'weekly']) {
            const good = ready.filter(
              one => one.lineage === lineage && one.schedule === schedule && one.verification !== 'Failed',
            )
            const last = ready.findLast(one => one.lineage === lineage && one.schedule === schedule)
            const later = ready.filter(
              one =>
                one.lineage !== lineage &&
                one.schedule === schedule &&
                one.verification !== 'Failed' &&
                one.hour > (last?.hour ?? 0),
            )
            for (const one of good.slice(later.length >= keep ? -1 : -keep)) expect(left).toContain(one)
          }
        }
        for (const one of all) if (!ready.includes(one)) expect(left).toContain(one)
      }),
    )
  })
})

import { expect, test } from 'vitest'
import { adoptedVolume } from '../../../../src/controllers/database/adoption.ts'
import { claim, probe, scene, serving } from './scene.ts'

const at = (time: string) => ({ ...claim(), metadata: { ...claim().metadata, creationTimestamp: time } })
const told = (claims: ReturnType<typeof at>[], ready = true, status = {}) => {
  const { observed } = scene({ status })
  const database = {
    ...observed.database,
    metadata: { ...observed.database.metadata, creationTimestamp: '2026-11-20T12:00:00Z' },
  } as Parameters<typeof adoptedVolume>[0]
  return adoptedVolume(database, { claims, probe: probe(serving({ ready, lineage: 'line' })) })
}

test('a volume that is older than its database is told once, when it serves', () => {
  const older = at('2026-11-20T11:59:59Z')
  expect(told([older])).toEqual({ claim: 'data-orders-0', lineage: 'line' })
  expect(told([older], false)).toBeUndefined()
  expect(told([older], true, { lineage: 'line' })).toBeUndefined()
  expect(told([at('2026-11-20T12:00:00Z')])).toBeUndefined()
  expect(told([])).toBeUndefined()
})

import { expect, test } from 'vitest'
import type { Backup } from '../../../sidecar/backup/catalog.ts'
import { unjudged } from '../../../sidecar/job/increments.ts'

let time = 0
const made = (directory: string, parent?: string, judged = false) =>
  ({
    directory,
    kind: parent === undefined ? 'Full' : 'Incremental',
    time: time++,
    ...(parent !== undefined && { parent: { directory: parent } }),
    ...(judged && { verification: { result: 'Verified' } }),
  }) as unknown as Backup

test('increments that were not judged are grouped by the Full below them, the newest Full first', () => {
  const backups = [
    made('a'),
    made('a1', 'a', true),
    made('a2', 'a1'),
    made('b'),
    made('b1', 'b'),
    made('a3', 'a2'),
    made('b2', 'b1'),
    made('c'),
    made('c1', 'c', true),
    made('lost1', 'gone'),
    made('lost2', 'lost1'),
  ]
  const groups = unjudged(backups).map(group => group.map(({ directory }) => directory))
  expect(groups).toEqual([
    ['b1', 'b2'],
    ['a2', 'a3'],
    ['lost1', 'lost2'],
  ])
})

import { expect, test } from 'vitest'
import { dueSlot } from '../../../src/standalone/schedules.ts'

const at = (text: string) => Date.parse(text)
const DAY = 86_400_000

test('several slots that were missed are made up for once, by the newest', () => {
  const after = at('2026-11-20T02:00:00Z')
  expect(dueSlot('0 2 * * *', 'Etc/UTC', after, at('2026-11-23T09:00:00Z'), DAY)).toBe(at('2026-11-23T02:00:00Z'))
  expect(dueSlot('0 2 * * *', 'Etc/UTC', at('2026-11-23T02:00:00Z'), at('2026-11-23T09:00:00Z'), DAY)).toBeUndefined()
})

test('a slot that is older than the deadline is given up', () => {
  const now = at('2026-11-23T09:00:00Z')
  expect(dueSlot('0 2 * * *', 'Etc/UTC', 0, now, 6 * 3_600_000)).toBeUndefined()
  expect(dueSlot('0 2 * * *', 'Etc/UTC', 0, now, 7 * 3_600_000)).toBe(at('2026-11-23T02:00:00Z'))
})

test('a slot is due from its own moment on, in the time zone of the backups', () => {
  const slot = at('2026-07-01T00:00:00Z')
  expect(dueSlot('0 2 * * *', 'Europe/Berlin', slot - DAY, slot - 1, DAY / 2)).toBeUndefined()
  expect(dueSlot('0 2 * * *', 'Europe/Berlin', slot - DAY, slot, DAY / 2)).toBe(slot)
})

import { expect, test } from 'vitest'
import { describe } from '../../../src/standalone/watch.ts'

test('a backup store that takes no changes is told beside ready, and that it takes them again', () => {
  const line = (continuous: object) =>
    describe({ state: 'OK', ready: true, engineVersion: 'SQLite 3', backup: { continuous } } as never)
  expect(line({ state: 'Shipping' })).toBe('ready, SQLite 3')
  expect(line({ state: 'Starting' })).toBe('ready, SQLite 3')
  expect(line({ state: 'Failing', failing: { message: 'no answer' } })).toBe(
    'ready, SQLite 3, continuous backup Failing: no answer',
  )
  expect(line({ state: 'HistoryConflict', failing: { message: '1.5 is another commit' } })).toBe(
    'ready, SQLite 3, continuous backup HistoryConflict: 1.5 is another commit',
  )
})

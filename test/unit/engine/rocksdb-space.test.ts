import { expect, test } from 'vitest'
import { SpaceGuard } from '../../../sidecar/engine/rocksdb/space.ts'

const MIB = 1 << 20

function disk(free: number, unflushed = 0) {
  const state = { free, unflushed, now: 0, looks: 0, flushes: 0 }
  const guard = new SpaceGuard({
    free: () => {
      state.looks++
      return state.free
    },
    unflushed: () => state.unflushed,
    flush: () => {
      state.flushes++
      state.free += state.unflushed
      state.unflushed = 0
    },
    now: () => state.now,
    size: 1000 * MIB,
  })
  return { state, guard }
}

test('with plenty of room the file system is asked once in a while: by bytes and by time', () => {
  const { state, guard } = disk(10_000 * MIB)
  for (let i = 0; i < 1000; i++) guard.admit(1000)
  expect(state.looks).toBe(1)
  for (let i = 0; i < 20; i++) guard.admit(MIB)
  expect(state.looks).toBe(2)
  state.now = 1500
  guard.admit(1)
  expect(state.looks).toBe(3)
})

test('near the end it is asked before every commit, and a commit that does not fit is refused with the numbers', () => {
  const { state, guard } = disk(100 * MIB)
  guard.admit(MIB)
  guard.admit(MIB)
  expect(state.looks).toBe(2)
  state.free = 2 * MIB
  expect(() => guard.admit(MIB)).toThrow(expect.objectContaining({ code: 'no_space' }))
  guard.admit(MIB / 4)
})

test('what is in memory only must fit too; it is flushed when that gives enough back', () => {
  const { state, guard } = disk(12 * MIB, 10 * MIB)
  guard.admit(2 * MIB)
  expect(state).toMatchObject({ flushes: 1, free: 22 * MIB })
})

test('there is no flush that would itself run out of space', () => {
  const { state, guard } = disk(10 * MIB, 10 * MIB)
  expect(() => guard.admit(1)).toThrow(expect.objectContaining({ code: 'no_space' }))
  expect(state.flushes).toBe(0)
})

test('it lets commits in again as soon as there is room', () => {
  const { state, guard } = disk(MIB)
  expect(() => guard.admit(1000)).toThrow()
  state.free = 8 * MIB
  guard.admit(1000)
})

import { describe, expect, test } from 'vitest'
import { type Task, TaskBoard, type TaskContext } from '../../../sidecar/maintenance/task-board.ts'
import { ManualClock } from '../../../src/common/clock.ts'

/** A task that runs until it is told to end, or cancelled. */
function boardOf(next?: number): { board: TaskBoard; clock: ManualClock; runs: TaskContext[]; end: () => void } {
  const clock = new ManualClock(1000)
  const runs: TaskContext[] = []
  let finish = () => {}
  const task: Task = {
    name: 'check',
    parameters: ['accept'],
    ...(next !== undefined && { next: now => (runs.length === 0 ? now + next : undefined) }),
    run(context) {
      runs.push(context)
      return new Promise((resolve, reject) => {
        finish = () => resolve({ run: runs.length })
        context.signal.addEventListener('abort', () => reject(new Error('stopped')))
      })
    },
  }
  const board = new TaskBoard([task], clock, () => {})
  return { board, clock, runs, end: () => finish() }
}

const nobody = new AbortController().signal
const cancelled = { code: 'cancelled' }

describe('two callers of one task', () => {
  test('wait for the same run', async () => {
    const { board, runs, end } = boardOf()
    const both = [board.run('check', {}, nobody), board.run('check', {}, nobody)]
    end()
    expect(await Promise.all(both)).toEqual([{ run: 1 }, { run: 1 }])
    expect(runs).toHaveLength(1)
    const again = board.run('check', {}, nobody)
    end()
    expect(await again).toEqual({ run: 2 })
  })

  test('end their own wait when they go, and the run with the last of them', async () => {
    const { board, runs } = boardOf()
    const [first, second] = [new AbortController(), new AbortController()]
    const one = board.run('check', {}, first.signal)
    const two = board.run('check', {}, second.signal)
    first.abort()
    await expect(one).rejects.toMatchObject(cancelled)
    expect(runs[0]?.signal.aborted).toBe(false)
    expect(board.statuses[0]).toMatchObject({ running: true })
    second.abort()
    await expect(two).rejects.toMatchObject(cancelled)
    expect(board.statuses[0]).toMatchObject({ running: false, lastOutcome: 'cancelled' })
  })

  test('who wants what the run does not do is refused', async () => {
    const { board, runs, end } = boardOf()
    const one = board.run('check', {}, nobody)
    await expect(board.run('check', { accept: 'true' }, nobody)).rejects.toMatchObject({
      code: 'conflict',
      message: 'check is running without accept=true: wait for its end, or cancel it',
    })
    const two = board.run('check', { accept: 'false' }, nobody)
    end()
    expect(await one).toEqual(await two)
    const more = board.run('check', { accept: 'true' }, nobody)
    const less = board.run('check', {}, nobody)
    end()
    expect(await less).toEqual(await more)
    expect(runs.map(run => run.parameters)).toEqual([{}, { accept: 'true' }])
  })
})

describe('a run by schedule', () => {
  test('goes on when those who joined it are gone', async () => {
    const { board, clock, runs, end } = boardOf(60_000)
    board.start()
    await clock.advance(60_000)
    expect(runs[0]?.scheduled).toBe(true)
    const joiner = new AbortController()
    const joined = board.run('check', {}, joiner.signal)
    joiner.abort()
    await expect(joined).rejects.toMatchObject(cancelled)
    expect(runs[0]?.signal.aborted).toBe(false)
    const other = board.run('check', {}, nobody)
    end()
    expect(await other).toEqual({ run: 1 })
  })

  test('that falls into a run on request keeps it', async () => {
    const { board, clock, runs, end } = boardOf(60_000)
    board.start()
    const requester = new AbortController()
    await clock.advance(59_000)
    const requested = board.run('check', {}, requester.signal)
    await clock.advance(2000)
    requester.abort()
    await expect(requested).rejects.toMatchObject(cancelled)
    expect(runs[0]?.signal.aborted).toBe(false)
    const other = board.run('check', {}, nobody)
    end()
    expect(await other).toEqual({ run: 1 })
  })

  test('can be cancelled by name', async () => {
    const { board, clock, runs } = boardOf(60_000)
    board.start()
    await clock.advance(60_000)
    expect(board.cancel('check')).toBe(true)
    await board.stop()
    expect(runs[0]?.signal.aborted).toBe(true)
    expect(board.statuses[0]).toMatchObject({ running: false, lastOutcome: 'cancelled' })
    expect(board.cancel('check')).toBe(false)
  })
})

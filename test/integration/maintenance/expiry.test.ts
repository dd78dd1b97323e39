import { expect, test } from 'vitest'
import { changesOf, FrameSplitter } from '../../../sidecar/database/frame.ts'
import type { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { type SidecarHere, sidecarHere } from '../../support/sidecar-here.ts'

const RECORDS = 20_000

/** As many expired records, and no run of the task before it is asked for. */
async function expired(batchSize: number): Promise<SidecarHere> {
  const here = await sidecarHere({
    spec: { monitoring: { logLevel: 'Error' }, maintenance: { expiry: { interval: '1h' } } },
    edit: config => {
      const { maintenance } = config.dynamic
      const expiry = { ...maintenance.expiry, batchSize }
      return { ...config, dynamic: { ...config.dynamic, maintenance: { ...maintenance, expiry } } }
    },
  })
  await here.sidecar.serving
  for (let first = 0; first < RECORDS; first += 1000)
    await here.sidecar.database.write({
      operations: Array.from({ length: 1000 }, (_, index) => ({
        op: 'put' as const,
        key: BigInt(first + index),
        term: 0n,
        cmd: 0n,
        data: Buffer.from('x'),
        expiry: { at: 1n },
      })),
    })
  return here
}

/** What each commit behind a position did: so many removes, or a write. */
async function commits(database: LocalDatabase, afterSeq: bigint): Promise<(number | 'write')[]> {
  const untilSeq = database.state.position.seq
  const { frames } = await database.session().readers.call('log', { afterSeq, untilSeq, maxBytes: 1 << 30 })
  return [...new FrameSplitter().push(Buffer.from(frames))].map(frame => {
    const changes = [...changesOf(frame)]
    return changes.every(change => change.kind === 'remove') ? changes.length : 'write'
  })
}

/** Expires everything while somebody writes without a pause. */
async function expireBesideWrites({ sidecar }: SidecarHere): Promise<(number | 'write')[]> {
  const { database } = sidecar
  const from = database.state.position.seq
  let done = false
  const writing = async () => {
    while (!done)
      await database.write({ operations: [{ op: 'put', key: 1n << 40n, term: 0n, cmd: 0n, data: Buffer.from('w') }] })
  }
  const writers = [writing(), writing()]
  const result = await database.runTask('expire', {}, new AbortController().signal)
  done = true
  await Promise.all(writers)
  expect(result).toEqual({ removed: RECORDS })
  return commits(database, from)
}

/** The most slices between two writes that waited all the time. */
function longestRun(of: readonly (number | 'write')[]): number {
  let longest = 0
  let run = 0
  for (const commit of of) {
    run = commit === 'write' ? 0 : run + 1
    longest = Math.max(longest, run)
  }
  return longest
}

test('expiry removes at most a batch in a commit, and writes come in between', { timeout: 60_000 }, async () => {
  const done = await expireBesideWrites(await expired(500))
  const slices = done.filter(commit => commit !== 'write')
  expect(Math.max(...slices)).toBeLessThanOrEqual(500)
  expect(slices.reduce((sum, removed) => sum + removed, 0)).toBe(RECORDS)
  expect(longestRun(done)).toBeLessThanOrEqual(2)
})

test('a slice ends after its time, whatever the batch may be', { timeout: 60_000 }, async () => {
  const done = await expireBesideWrites(await expired(RECORDS * 2))
  const slices = done.filter(commit => commit !== 'write')
  expect(slices.length).toBeGreaterThan(1)
  expect(longestRun(done)).toBeLessThanOrEqual(2)
})

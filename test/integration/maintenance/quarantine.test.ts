import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'

const ENTRIES = ['20260101T000000Z-import', '20260102T000000Z-import']
const MONTH = 30 * 86_400_000

test('nothing goes from quarantine because of a clock that is a month ahead', async () => {
  const directory = join(temporaryDirectory(), 'volume')
  const first = await sidecarHere({ directory })
  const url = await first.sidecar.serving
  expect((await fetch(`${url}/v1/records/1`, { method: 'PUT', body: 'x' })).status).toBe(201)
  await first.sidecar.stop()
  for (const entry of ENTRIES) {
    mkdirSync(join(directory, 'quarantine', entry, 'db'), { recursive: true })
    writeFileSync(join(directory, 'quarantine', entry, 'db', 'main.db'), 'kept')
  }
  const now = () => Date.now() + MONTH
  const ahead: Clock = Object.assign(Object.create(systemClock), { now })
  const wrong = await sidecarHere({ directory, clock: ahead })
  await wrong.sidecar.serving
  await wrong.sidecar.stop()
  expect(readdirSync(join(directory, 'quarantine')).sort()).toEqual(ENTRIES)

  const right = await sidecarHere({ directory })
  await right.sidecar.serving
  await vi.waitFor(() => expect(readdirSync(join(directory, 'quarantine'))).toEqual([ENTRIES[1]]), { timeout: 10_000 })
})

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as moment } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { ManualClock } from '../../../src/common/clock.ts'
import { BackupSchedules } from '../../../src/standalone/schedules.ts'
import { temporaryDirectory } from '../../support/sidecar-here.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const AT_NOON = Date.parse('2026-11-23T12:00:00Z')

/** In the place of bin/kvidx: notes what it is asked, and ends as the file `outcome` says. */
const JOB = `import { appendFileSync, readFileSync } from 'node:fs'
const at = import.meta.dirname
appendFileSync(at + '/asked', process.argv.slice(3).join(' ').replace(/ --scratch .*/, '') + '\\n')
console.log(JSON.stringify(JSON.parse(readFileSync(at + '/outcome', 'utf8'))[process.argv[3]]))`

const DAILY = { name: 'daily', schedule: '0 2 * * *', type: 'Full' as const }
const HOURLY = { name: 'hourly', schedule: '0 * * * *', type: 'Incremental' as const }

/** The schedules of a database that is ready, with a clock of their own. */
async function scheduled(
  schedules: readonly object[],
  given: { continuous?: true; memoryFile?: string; drill?: object } = {},
) {
  const directory = temporaryDirectory()
  writeFileSync(join(directory, 'job.mjs'), JOB)
  const outcome = (backup: object, prune: object = { phase: 'Completed' }) =>
    writeFileSync(join(directory, 'outcome'), JSON.stringify({ backup, prune }))
  outcome({ phase: 'Completed', name: 'some' })
  const server = createServer((_, response) => void response.end('READY')).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { backup } = sidecarConfig({
    namespace: 'default',
    name: 'orders',
    spec: withDefaults({
      engine: 'SQLite',
      storage: { size: '1Gi' },
      backup: {
        destination: { volume: { size: '1Gi' } },
        schedules: schedules as never,
        continuous: { enabled: given.continuous === true },
        ...(given.drill && { drill: given.drill }),
      },
    } as never),
  }).dynamic
  const clock = new ManualClock(AT_NOON)
  const lines: string[] = []
  const running = new BackupSchedules({
    backup: backup as NonNullable<typeof backup>,
    flags: [],
    launcher: join(directory, 'job.mjs'),
    opsAddress: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    scratch: join(directory, 'scratch'),
    memoryFile: given.memoryFile ?? join(directory, 'schedules.json'),
    clock,
    print: line => void lines.push(line),
  })
  running.start()
  onTestFinished(async () => {
    await running.stop()
    server.close()
  })
  const asked = () => {
    const file = join(directory, 'asked')
    return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []
  }
  return {
    clock,
    lines,
    asked,
    outcome,
    memory: () => JSON.parse(readFileSync(join(directory, 'schedules.json'), 'utf8')),
    /** Lets time pass until this holds, and gives how much did, ms. */
    async until(holds: () => boolean, step = 1000): Promise<number> {
      const began = clock.monotonic()
      for (let turn = 0; !holds(); turn++) {
        if (turn > 3000) throw new Error(`it did not happen; asked: ${asked()}; lines: ${lines}`)
        await clock.advance(step)
        await moment(5)
      }
      return clock.monotonic() - began
    },
  }
}

test('with continuous the first Full is made at once, wherever it stands in the list, and again until it succeeds', async () => {
  const { asked, until, outcome, lines } = await scheduled([HOURLY, DAILY], { continuous: true })
  outcome({ phase: 'Failed', error: 'no credentials', code: 'store_denied' })
  await until(() => lines.length === 1)
  expect(lines).toEqual(['backup daily failed: no credentials'])
  const [first] = asked()
  expect(first).toMatch(/^backup --schedule daily --slot 2026-11-23T12:/)
  expect(await until(() => asked().length === 2, 5000)).toBeGreaterThan(50_000)
  // the same slot: the same name
  expect(asked()[1]).toBe(first)
  outcome({ phase: 'Completed', name: 'orders-daily', verification: 'Verified' })
  await until(() => asked().includes('prune'))
  const made = asked().length
  await until(() => asked().some(line => line.includes('--schedule hourly')), 30_000)
  expect(asked().length).toBe(made + 1)
})

test('a run that failed is repeated with growing delays, not beyond its deadline, and not while what is stored does not hold', async () => {
  const { asked, until, outcome, lines, clock } = await scheduled([
    { ...DAILY, schedule: '2 12 * * *', startingDeadline: '10m' },
  ])
  outcome({ phase: 'Failed', error: 'the bucket does not answer', code: 'store_unreachable' })
  await until(() => asked().length === 1, 5000)
  expect(await until(() => asked().length === 2, 5000)).toBeGreaterThan(50_000)
  expect(await until(() => asked().length === 3, 5000)).toBeGreaterThan(110_000)
  await until(() => clock.now() > Date.parse('2026-11-23T12:14:00Z'), 10_000)
  const attempts = asked().length
  expect(new Set(asked())).toEqual(new Set(['backup --schedule daily --slot 2026-11-23T12:02:00.000Z']))
  await until(() => clock.now() > Date.parse('2026-11-23T12:40:00Z'), MINUTE)
  expect(asked()).toHaveLength(attempts)

  outcome({ phase: 'Failed', error: 'count: expected 2, found 1', code: 'backup_corrupt' })
  clock.jump(24 * HOUR - 35 * MINUTE)
  await until(() => lines.at(-1) === 'backup daily failed: count: expected 2, found 1')
  await until(() => clock.now() > Date.parse('2026-11-24T12:11:00Z'), MINUTE)
  expect(asked()).toHaveLength(attempts + 1)
})

test('a clock that was ahead and is put right does not silence the schedules until then', async () => {
  const { clock, asked, until, lines, memory } = await scheduled([HOURLY])
  await until(() => asked().length === 1, 30_000)
  clock.jump(400 * 24 * HOUR)
  await until(() => asked().length === 2)
  await until(() => memory().hourly.slot > AT_NOON + 399 * 24 * HOUR)
  clock.jump(-400 * 24 * HOUR)
  await until(() => asked().length === 3, 30_000)
  expect(asked()[2]).toMatch(/--slot 2026-11-23T1[4-6]:00:00/)
  expect(lines.filter(line => line.includes('which is still to come; it counts from now on'))).toHaveLength(1)
})

test('what cannot be remembered is said once, and the schedules go on', async () => {
  const memoryFile = join(temporaryDirectory(), 'is not there', 'schedules.json')
  const { asked, until, lines } = await scheduled([HOURLY], { memoryFile })
  await until(() => lines.length === 1)
  expect(lines[0]).toMatch(/^what its schedules did cannot be remembered: ENOENT/)
  await until(() => asked().length === 2, 30_000)
  expect(lines.filter(line => line.includes('remembered'))).toHaveLength(1)
})

test('a prune that fails is said', async () => {
  const { asked, until, outcome, lines, clock } = await scheduled([DAILY], { continuous: true })
  await until(() => lines.some(line => line.startsWith('backup some:')) && asked().length === 2)
  expect(lines.some(line => line.startsWith('prune'))).toBe(false)
  outcome({ phase: 'Completed', name: 'some' }, { phase: 'Failed', error: 'the bucket is read-only' })
  clock.jump(14 * HOUR)
  await until(() => lines.includes('prune failed: the bucket is read-only'))
})

test('a schedule that is called drill is not the drill', async () => {
  const drill = { schedule: '0 * * * *' }
  const { asked, until } = await scheduled([{ ...HOURLY, name: 'drill' }], { drill })
  await until(
    () => asked().some(line => line.startsWith('backup --schedule drill')) && asked().includes('drill'),
    30_000,
  )
})

import { describe, expect, test } from 'vitest'
import { span, statusText } from '../../../src/cli/status.ts'

const NOW = Date.UTC(2026, 0, 2, 3, 0, 0)
const MINUTE = 60_000

describe('kvidx status', () => {
  test('says first whether it serves and what is wrong, then what a person needs to decide', () => {
    const text = statusText(
      {
        state: 'DEGRADED',
        ready: true,
        namespace: 'shop',
        name: 'orders',
        started: NOW - 90 * MINUTE,
        pid: 7,
        engineVersion: 'SQLite 3.54.1',
        health: { causes: [{ reason: 'WalLarge', message: 'the WAL has 120 MiB', since: NOW - 5 * MINUTE }] },
        data: { position: '2.17', time: String(NOW - 1000), count: '12', dataBytes: '2048' },
        storage: { fileBytes: 4096, walBytes: 1024, fragmentation: 0.25 },
        volume: { size: 2 ** 30, free: 2 ** 29, daysUntilFull: 12.7, quarantine: { entries: 2, bytes: 100 } },
        tasks: [
          {
            name: 'check',
            running: false,
            lastRun: NOW - 2 * MINUTE,
            lastOutcome: 'failed',
            lastMessage: 'page 7 is bad',
          },
          { name: 'vacuum', running: true, progress: 0.42 },
        ],
        backup: {
          lastSuccessful: { name: 'orders-daily', completedAt: new Date(NOW - 60 * MINUTE).toISOString() },
          lastFailed: {
            name: 'orders-hourly',
            completedAt: new Date(NOW - MINUTE).toISOString(),
            error: 'no such bucket',
          },
          catalog: {},
          continuous: { state: 'Failing', backlogChanges: 3, rpoMs: 61_000, failing: { message: 'refused' } },
        },
      },
      NOW,
    )
    expect(text).toBe(`shop/orders  DEGRADED
  WalLarge, for 5m: the WAL has 120 MiB
engine         SQLite 3.54.1
process        7, up 1h 30m
records        12, 2.00 KiB
last commit    2.17, 1s ago
files          4.00 KiB, WAL 1.00 KiB, 25 % unused
volume         512 MiB free of 1.00 GiB, full in 12 days
quarantine     2 entries, 100 B (kvidx quarantine list)
backup         orders-daily, 1h ago
verified       none yet
backup failed  orders-hourly, 1m ago: no such bucket
continuous     Failing, 3 changes not in the store, the oldest for 1m 1s: refused
task check        failed 2m ago: page 7 is bad; on request
task vacuum       running, 42 %
`)
  })

  test('a database that does not serve says why, and shows no figures of nothing', () => {
    const text = statusText(
      {
        state: 'OK',
        ready: false,
        name: 'orders',
        engineVersion: '',
        failure: { code: 'locked', message: 'the lock is held' },
        data: { position: '1.0', time: '0', count: '0', dataBytes: '0' },
        storage: null,
        tasks: [{ name: 'check', running: false }],
      },
      NOW,
    )
    expect(text).toBe('default/orders  NOT READY: the lock is held\n')
  })

  test('backups that nobody looked for are not said to be none', () => {
    const told = (backup: object) => statusText({ state: 'OK', backup: { ...backup } } as never, NOW)
    const empty = { time: '2026-11-23T12:00:00Z', backups: 0, segments: 0 }
    expect(told({})).toMatch(/backup +not known: the store was not read/)
    expect(told({ catalog: { ...empty, error: 'no such bucket' } })).toMatch(/verified +not known/)
    expect(told({ catalog: empty })).toMatch(/backup +none yet/)
  })

  test('a failed backup is no news after a later success', () => {
    const at = (minutes: number) => new Date(NOW - minutes * MINUTE).toISOString()
    const backup = (failed: number, success: number) =>
      statusText(
        {
          state: 'OK',
          ready: true,
          backup: {
            lastFailed: { name: 'f', completedAt: at(failed) },
            lastSuccessful: { name: 's', completedAt: at(success) },
          },
        },
        NOW,
      )
    expect(backup(1, 2)).toContain('backup failed')
    expect(backup(2, 1)).not.toContain('backup failed')
  })

  test.each([
    [0, '0s'],
    [999, '1s'],
    [60_000, '1m'],
    [3_725_000, '1h 2m'],
    [90_061_000, '1d 1h'],
    [-5, '0s'],
  ])('%i ms is %s', (ms, text) => expect(span(ms)).toBe(text))
})

import { mkdirSync, mkdtempSync, rmSync, utimesSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { listQuarantine } from '../../../sidecar/restore/quarantine.ts'
import { volumeLayout } from '../../../sidecar/volume/layout.ts'

it('lists what was moved last first, also within one second, with the reason without its number', async () => {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-quarantine-'))
  const layout = volumeLayout(root)
  const moved = ['restored', 'undo', 'restored-2', 'restored-3', 'damaged', 'undo-2'].map(
    end => `20261128T120000Z-${end}`,
  )
  moved.unshift('20261127T235959Z-restored-10')
  for (const [at, name] of moved.entries()) {
    mkdirSync(join(layout.quarantine, name), { recursive: true })
    utimesSync(join(layout.quarantine, name), at, at)
  }
  const entries = await listQuarantine(layout)
  expect(entries.map(({ name }) => name)).toEqual(moved.toReversed())
  expect(entries.map(({ reason }) => reason)).toEqual([
    ...['undo', 'damaged', 'restored', 'restored', 'undo', 'restored', 'restored'],
  ])
  expect(entries[0]).toEqual({ name: moved.at(-1), reason: 'undo', time: '2026-11-28T12:00:00.000Z', bytes: 0 })
  rmSync(root, { recursive: true })
})

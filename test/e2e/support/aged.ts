import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { backupDirectoryName } from '../../../sidecar/backup/layout.ts'
import { encodeManifest, parseManifest } from '../../../sidecar/backup/manifest.ts'

const DAY = 86_400_000

/** A copy of a stored Full that says it is of a schedule, so many days old. Returns its name. @param directory `…/<lineage>` of the store */
export function aged(directory: string, name: string, schedule: string, days: number): string {
  const snapshots = join(directory, 'snapshots')
  const source = readdirSync(snapshots).find(entry => entry.endsWith(`-${name}`))
  if (source === undefined) throw new Error(`${snapshots} has no backup ${name}`)
  const path = join(snapshots, source)
  const manifest = parseManifest(readFileSync(join(path, 'manifest.json')), path)
  const time = Date.parse(manifest.startedAt) - days * DAY
  const copy = `${name}-${days}d`
  const target = join(snapshots, backupDirectoryName({ time, name: copy }))
  cpSync(path, target, { recursive: true })
  rmSync(join(target, 'verification.json'), { force: true })
  const at = new Date(time).toISOString()
  const old = { ...manifest, name: copy, schedule, verify: false, startedAt: at, completedAt: at }
  writeFileSync(join(target, 'manifest.json'), encodeManifest(old))
  return copy
}

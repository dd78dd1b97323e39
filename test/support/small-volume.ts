import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** Only root can mount a file system of its own. */
export const canMount = process.getuid?.() === 0

/** A file system of so many MiB, ext4 on a loop device where there is one, else tmpfs. Unmounted with the test. */
export function smallVolume(mebibytes: number): string {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-small-'))
  const mountPoint = join(root, 'mnt')
  mkdirSync(mountPoint)
  try {
    const image = join(root, 'image')
    writeFileSync(image, '')
    truncateSync(image, mebibytes * 1024 * 1024)
    execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', image], { stdio: 'ignore' })
    execFileSync('mount', ['-o', 'loop', image, mountPoint], { stdio: 'ignore' })
  } catch {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', mountPoint])
  }
  onTestFinished(() => {
    // the sidecar's own end is registered later and so comes first
    execFileSync('umount', ['-l', mountPoint])
    rmSync(root, { recursive: true, force: true })
  })
  const volume = join(mountPoint, 'volume')
  mkdirSync(volume)
  return volume
}

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** A file system that can lose its power: what was not synced is gone then. */
export interface PowerLossVolume {
  readonly directory: string
  /** What the disk holds at this moment, without anything that is still in the memory of the file system. Kill the processes first. */
  cut(): string
}

/**
 * ext4 on a loop device. The image holds what the file system gave to its device; dirty pages and the journal's open transaction are in memory, and here they
 * stay there for as long as the test runs (`commit=300`; dirty pages are written back after 30 s). `noauto_da_alloc`: ext4 must not sync a rename by itself.
 */
export function powerLossVolume(mebibytes: number): PowerLossVolume {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-power-'))
  const image = join(root, 'image')
  writeFileSync(image, '')
  truncateSync(image, mebibytes * 1024 * 1024)
  execFileSync('mkfs.ext4', ['-q', '-m', '0', image], { stdio: 'ignore' })
  const mounted: string[] = []
  const mount = (file: string, options: string): string => {
    const point = `${file}.mnt`
    mkdirSync(point)
    execFileSync('mount', ['-o', options, file, point], { stdio: 'ignore' })
    mounted.push(point)
    return point
  }
  const directory = join(mount(image, 'loop,noauto_da_alloc,commit=300'), 'volume')
  mkdirSync(directory)
  // the volume itself was there before anybody used it
  execFileSync('sync', ['-f', directory])
  onTestFinished(() => {
    for (const point of mounted.reverse()) execFileSync('umount', ['-l', point])
    rmSync(root, { recursive: true, force: true })
  })
  let cuts = 0
  return {
    directory,
    cut() {
      const copy = `${image}-${++cuts}`
      copyFileSync(image, copy)
      return join(mount(copy, 'loop'), 'volume')
    },
  }
}

import { existsSync } from 'node:fs'
import { RandomFile } from './random-file.ts'

const HEADER = 32
const FRAME_HEADER = 24
const MAGIC_LITTLE = 0x377f0682
const MAGIC_BIG = 0x377f0683

/** What a write-ahead log gave. */
export interface WalSummary {
  /** Frames that belong to commits and were used. */
  readonly usedFrames: number
  /** Whole frames of the same generation behind the first bad checksum: commits that cannot be trusted any more. */
  readonly lostFrames: number
  /** Why the log could not be used to its end. */
  readonly problem?: string
}

/** Where the newest committed version of each page lies in a WAL. */
export interface WalIndex {
  readonly file: RandomFile
  readonly pageSize: number
  readonly offsets: ReadonlyMap<number, number>
  /** Pages of the database after the last commit. */
  readonly pages: number
  readonly summary: WalSummary
}

/**
 * Reads a WAL as SQLite's recovery does: frame by frame while salts and running checksum fit, up to the last commit. Undefined when there is none
 * or it is empty.
 */
export function readWal(path: string): WalIndex | undefined {
  if (!existsSync(path)) return undefined
  const file = new RandomFile(path)
  if (file.size === 0) {
    file.close()
    return undefined
  }
  const header = file.read(0, HEADER)
  const problem = header === undefined ? 'it is shorter than its header' : headerProblem(header)
  if (header === undefined || problem !== undefined) {
    const summary = {
      usedFrames: 0,
      lostFrames: Math.floor(Math.max(0, file.size - HEADER) / 4096),
      problem: problem ?? '',
    }
    return { file, pageSize: 0, offsets: new Map(), pages: 0, summary }
  }
  return readFrames(file, header)
}

function headerProblem(header: Buffer): string | undefined {
  const magic = header.readUInt32BE(0)
  if (magic !== MAGIC_LITTLE && magic !== MAGIC_BIG) return 'its header does not begin as that of a WAL'
  const [s0, s1] = checksum(header.subarray(0, 24), magic === MAGIC_BIG, 0, 0)
  if (s0 !== header.readUInt32BE(24) || s1 !== header.readUInt32BE(28)) return 'the checksum of its header is wrong'
  return undefined
}

function readFrames(file: RandomFile, header: Buffer): WalIndex {
  const big = header.readUInt32BE(0) === MAGIC_BIG
  const pageSize = header.readUInt32BE(8)
  const salts = header.subarray(16, 24)
  const offsets = new Map<number, number>()
  let pending = new Map<number, number>()
  let pages = 0
  let used = 0
  let s0 = header.readUInt32BE(24)
  let s1 = header.readUInt32BE(28)
  const size = FRAME_HEADER + pageSize
  const total = Math.floor((file.size - HEADER) / size)
  let frame = 0
  for (; frame < total; frame++) {
    const offset = HEADER + frame * size
    const bytes = file.read(offset, size)
    if (bytes === undefined || !bytes.subarray(8, 16).equals(salts)) break
    ;[s0, s1] = checksum(bytes.subarray(0, 8), big, s0, s1)
    ;[s0, s1] = checksum(bytes.subarray(FRAME_HEADER), big, s0, s1)
    if (s0 !== bytes.readUInt32BE(16) || s1 !== bytes.readUInt32BE(20)) break
    pending.set(bytes.readUInt32BE(0), offset + FRAME_HEADER)
    const pagesAfter = bytes.readUInt32BE(4)
    if (pagesAfter === 0) continue
    for (const [page, at] of pending) offsets.set(page, at)
    pending = new Map()
    pages = pagesAfter
    used = frame + 1
  }
  const lostFrames = sameGeneration(file, frame, total, size, salts)
  const summary =
    lostFrames === 0
      ? { usedFrames: used, lostFrames }
      : {
          usedFrames: used,
          lostFrames,
          problem: `the checksum of frame ${frame + 1} is wrong, so it and what follows cannot be used`,
        }
  return { file, pageSize, offsets, pages, summary }
}

/** Frames from `from` on that carry the salts of this generation; older ones are only left-overs. */
function sameGeneration(file: RandomFile, from: number, total: number, size: number, salts: Buffer): number {
  let count = 0
  for (let frame = from; frame < total; frame++) {
    const head = file.read(HEADER + frame * size, FRAME_HEADER)
    if (head?.subarray(8, 16).equals(salts)) count++
  }
  return count
}

/** SQLite's running checksum over pairs of 32-bit words. */
function checksum(bytes: Buffer, big: boolean, s0: number, s1: number): [number, number] {
  let a = s0
  let b = s1
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    a = (a + view.getUint32(at, !big) + b) >>> 0
    b = (b + view.getUint32(at + 4, !big) + a) >>> 0
  }
  return [a, b]
}

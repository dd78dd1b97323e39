import { KvidxError } from '../../src/common/errors.ts'
import {
  CHANGE_FILE_HEADER,
  type ChangeFileContent,
  checkChangeFileHeader,
  type FrameHeader,
  FrameSplitter,
  readFrameHeader,
} from '../database/frame.ts'
import type { Segment } from './catalog.ts'
import type { Home } from './layout.ts'
import { changesPath } from './layout.ts'
import { type FileContext, opened } from './stored-file.ts'

/** A commit as it stands in a file, checked. */
export interface CheckedFrame {
  readonly frame: Buffer
  readonly header: FrameHeader
}

/** Whole frames of a change file, a batch for each piece that arrives, each frame with its checksum compared. Errors: backup_corrupt. */
export async function* readFrames(
  source: AsyncIterable<Uint8Array>,
  content: ChangeFileContent,
): AsyncGenerator<CheckedFrame[]> {
  const splitter = new FrameSplitter()
  let header = Buffer.alloc(0)
  for await (const chunk of source) {
    let rest: Uint8Array = chunk
    if (header.length < CHANGE_FILE_HEADER) {
      const take = Math.min(CHANGE_FILE_HEADER - header.length, chunk.length)
      header = Buffer.concat([header, chunk.subarray(0, take)])
      if (header.length < CHANGE_FILE_HEADER) continue
      checkChangeFileHeader(header, content)
      rest = chunk.subarray(take)
    }
    const frames = splitter.push(rest).map(frame => ({ frame, header: readFrameHeader(frame) }))
    if (frames.length > 0) yield frames
  }
  checkChangeFileHeader(header, content)
  splitter.end()
}

/**
 * The commits of a segment. Its name is its claim: epoch, first and last seq must be exactly those of its frames, without a gap. Errors: backup_corrupt and
 * wrong_encryption_key naming the segment, backup_gap when it is gone.
 */
export async function* readSegment(context: FileContext, segment: Segment): AsyncGenerator<CheckedFrame[]> {
  const { key, epoch, first, last, encrypted } = segment
  const damaged = (what: string, cause?: unknown) =>
    new KvidxError('backup_corrupt', `${key}: ${what}`, { file: key }, cause)
  let next = first
  try {
    const { chunks } = await context.store.get(key, context.signal && { signal: context.signal })
    for await (const frames of readFrames(opened(chunks, encrypted, context.keys), 'commits')) {
      for (const { header } of frames) {
        if (header.epoch !== epoch || header.firstSeq !== next || header.lastSeq > last || header.changeCount === 0)
          throw damaged(
            `holds the commit ${header.firstSeq} to ${header.lastSeq} of epoch ${header.epoch} where ${next} of epoch ${epoch} comes next (the file is to end at ${last})`,
          )
        next = header.lastSeq + 1n
      }
      yield frames
    }
  } catch (thrown) {
    if (!(thrown instanceof KvidxError)) throw thrown
    if (thrown.code === 'backup_not_found')
      throw new KvidxError(
        'backup_gap',
        `${key} is gone: the changes ${first} to ${last} of epoch ${epoch} are missing`,
        { file: key },
        thrown,
      )
    if (thrown.code === 'backup_corrupt' && thrown.details.file !== key) throw damaged(thrown.message, thrown)
    if (thrown.code === 'wrong_encryption_key')
      throw new KvidxError(
        'wrong_encryption_key',
        `${key}: ${thrown.message}`,
        { ...thrown.details, file: key },
        thrown,
      )
    throw thrown
  }
  if (next !== last + 1n) throw damaged(`ends with seq ${next - 1n}, its name says ${last}`)
}

/** Key of a segment's file. */
export function segmentKey(home: Home, name: string): string {
  return changesPath(home) + name
}

import { expect, test } from 'vitest'
import { readFrames } from '../../../sidecar/backup/change-file.ts'
import { changeFileHeader, MAX_FRAME_BYTES, MAX_REQUEST_BYTES } from '../../../sidecar/database/frame.ts'

/** The beginning of a change file whose first frame says that it is so long. */
async function* beginning(length: number): AsyncGenerator<Uint8Array> {
  const start = Buffer.alloc(4)
  start.writeUInt32LE(length)
  yield Buffer.concat([changeFileHeader('commits'), start])
}

const read = async (length: number) => {
  for await (const _ of readFrames(beginning(length), 'commits'));
}

test('the largest commit that is written can be read from a backup; a longer frame is damage', async () => {
  const largest = MAX_REQUEST_BYTES + 64 * 1024 * 1024
  await expect(read(largest)).rejects.toThrow('ends inside a frame')
  await expect(read(MAX_FRAME_BYTES)).rejects.toThrow(`has a length of ${MAX_FRAME_BYTES + 8} bytes`)
})

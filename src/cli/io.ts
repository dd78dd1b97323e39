import type { Readable, Writable } from 'node:stream'
import { environment } from '../common/environment.ts'

/** Where a command reads and writes; tests give their own. */
export interface Io {
  readonly input: Readable
  /** What was asked for. */
  readonly output: Writable
  /** Everything else: progress, notes, errors. */
  readonly notes: Writable
  /** Somebody looks at the notes: progress bars are shown. */
  readonly watched: boolean
}

export function processIo(): Io {
  return {
    input: process.stdin,
    output: process.stdout,
    notes: process.stderr,
    watched: process.stderr.isTTY === true && environment.read('CI') === undefined,
  }
}

/** Writes and waits until there is room again, so that a slow pipe holds the source back. */
export function write(stream: Writable, chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, error => (error ? reject(error) : resolve()))
  })
}

/** Pieces of a stream as whole lines, without their LF. */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  const pieces: string[] = []
  for await (const chunk of chunks) {
    const parts = decoder.decode(chunk, { stream: true }).split('\n')
    for (const part of parts.slice(0, -1)) {
      pieces.push(part)
      yield pieces.splice(0).join('')
    }
    const rest = parts.at(-1)
    if (rest) pieces.push(rest)
  }
  if (pieces.length > 0) yield pieces.join('')
}
